"""The wrapper above downstream engines: an image in [0, 1] in, label map or boxes in its own pixels out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from deploy_robust.downstream.decoding import boxes_of, scores_of
from deploy_robust.errors import DeployRobustError, EngineDefect
from deploy_robust.models.vision.centres import Found
from deploy_robust.restorer import pad_to_rule, to_native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.downstream.adapter import Adapter
    from deploy_robust.engine import Capabilities


class VisionEngine(Protocol):
    """A loaded downstream network: the engine protocol with as many outputs as the network has."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        ...

    def answers(self, batch: Tensor) -> Mapping[str, Tensor]:
        """One forward pass: outputs by name, in the network's order.

        Raises:
            EngineDefect: The runtime failed on an input that it had accepted.
        """
        ...

    def close(self) -> None:
        """Release the runtime's resources; calling it twice is harmless."""
        ...


class Viewer:
    """A downstream engine seen through its description.

    Images go to the network one by one: an answer may depend on the batch. They are cut to [0, 1] and rounded to 8
    bits first, as all metrics see them.

    Attributes:
        engine: The engine inside.
        adapter: What it takes and gives.
    """

    def __init__(self, engine: VisionEngine, adapter: Adapter) -> None:
        self.engine = engine
        self.adapter = adapter

    def classes(self, image: Tensor) -> Tensor:
        """The class of each pixel, an index into the adapter's classes.

        Args:
            image: (1, 3, H, W) float32 in [0, 1].

        Returns:
            (H, W) int64 on the CPU.

        Raises:
            EngineDefect: The engine failed, or gave another answer than described.
        """
        answers, shown, seen = self._look(image)
        scores = scores_of(answers, self.adapter)
        labels = self.adapter.reading.form == "labels"
        if tuple(scores.shape[-2:]) != shown:
            scores = _resized(scores, shown, exact=labels)
        scores = scores[..., : seen[0], : seen[1]]
        size = image.shape[-2], image.shape[-1]
        if seen != size:
            scores = _resized(scores, size, exact=labels)
        return scores[0].argmax(0)

    def objects(self, image: Tensor) -> Found:
        """Objects of the adapter's classes, boxes in pixels of the image, the surest first.

        Args:
            image: (1, 3, H, W) float32 in [0, 1].

        Raises:
            EngineDefect: The engine failed, or gave another answer than described.
        """
        answers, shown, seen = self._look(image)
        found = boxes_of(answers, self.adapter, shown)
        height, width = image.shape[-2:]
        scale = found.corners.new_tensor([width / seen[1], height / seen[0]] * 2)
        limit = found.corners.new_tensor([width, height] * 2)
        corners = torch.minimum((found.corners * scale).clamp(min=0), limit)
        kept = (corners[:, 2:] > corners[:, :2]).all(1)
        return Found(corners[kept], found.scores[kept], found.classes[kept])

    def _look(self, image: Tensor) -> tuple[Mapping[str, Tensor], tuple[int, int], tuple[int, int]]:
        """Outputs on the CPU, the size that the network was given, and the part of it that shows the image."""
        x = (image.detach().clamp(0, 1) * 255).round() / 255
        if self.adapter.size is not None and tuple(x.shape[-2:]) != self.adapter.size:
            x = F.interpolate(x, self.adapter.size, mode="bilinear", align_corners=False, antialias=True)
        seen = x.shape[-2], x.shape[-1]
        padded = pad_to_rule(x.to(self.engine.capabilities.device), self.adapter.io.size)
        try:
            with torch.no_grad():
                answers = self.engine.answers(to_native(padded, self.adapter.io))
        except DeployRobustError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineDefect("crash", f"the downstream network raised {type(error).__name__}: {reason}") from error
        for name, answer in answers.items():
            if answer.is_floating_point() and not bool(torch.isfinite(answer).all()):
                raise EngineDefect("nan", f"output {name} of the downstream network is not finite")
        return {name: answer.cpu() for name, answer in answers.items()}, (padded.shape[-2], padded.shape[-1]), seen

    def close(self) -> None:
        """Releases the engine."""
        self.engine.close()


def _resized(scores: Tensor, size: tuple[int, int], *, exact: bool) -> Tensor:
    """Scores at another size; those of label maps by the nearest, so that no class appears between two others."""
    if exact:
        return F.interpolate(scores, size, mode="nearest-exact")
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)
