"""Where searches by queries may start: the images that attacks by gradients have found in the same batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from deploy_robust.gate.records import Case, Measurement


@dataclass(slots=True)
class Starts:
    """For each pair, epsilon and network the image that left least of its output, of those that were taken so far.

    Attributes:
        found: (pair, level, role) to that PSNR in dB, and the image, (3, H, W).
    """

    found: dict[tuple[str, float, str], tuple[float, Tensor]] = field(default_factory=dict)

    def take(self, cases: Sequence[Case], images: Tensor, seen: Mapping[Case, Sequence[Measurement]]) -> None:
        """Takes images (N, 3, H, W), one for each case, with what the networks made of them as 8 bits."""
        for case, image in zip(cases, images, strict=True):
            for m in seen[case]:
                if m.delivery != "8bit":
                    continue
                # PSNR to the ground truth, else to the clean output; nothing is left where the answer is a defect.
                left = -math.inf if m.defect is not None else m.values.get("psnr", m.values.get("drift", math.inf))
                key = case.pair, case.level, m.role
                if key not in self.found or left < self.found[key][0]:
                    self.found[key] = left, image

    def of(self, cases: Sequence[Case], role: str, device: str) -> Tensor | None:
        """One image for each case, for a search on that network, (N, 3, H, W); None where any of them has none."""
        keys = [(case.pair, case.level, role) for case in cases]
        if not all(key in self.found for key in keys):
            return None
        return torch.stack([self.found[key][1] for key in keys]).to(device)
