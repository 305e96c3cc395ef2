"""An engine that ran elsewhere: it answers an image with the output that was recorded for it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.engine import Capabilities
from deploy_robust.gate.records import digest_of_image

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.stored.outputs import RecordedOutputs


class RecordedEngine:
    """Looks answers up by the pixels of the 8-bit input. It runs nothing, and knows no image that was not recorded."""

    def __init__(self, outputs: RecordedOutputs, *, precision: str) -> None:
        """Stands for the engine that gave the outputs.

        Args:
            outputs: What it gave.
            precision: Of that engine, as its manifest or its user says.
        """
        self._outputs = outputs
        self._capabilities = Capabilities(
            runtime="the target's runtime (recorded)",
            provider="elsewhere",
            deterministic=False,
            precision=precision,
            tags={"outputs": outputs.form, **({"target": outputs.target} if outputs.target else {})},
        )

    @property
    def capabilities(self) -> Capabilities:
        """What is known of the engine that was recorded; nothing was read back from it."""
        return self._capabilities

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """The recorded outputs (N, 3, H, W) float32 to 8-bit images (N, 3, H, W) float32 in [0, 1].

        Raises:
            InputError: An image is none of the set's.
        """
        codes = (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        answers = torch.stack([self._outputs.answer(digest_of_image(np.ascontiguousarray(row))) for row in codes])
        return answers if out is None else out.copy_(answers)

    def close(self) -> None:
        """There is nothing to release."""
