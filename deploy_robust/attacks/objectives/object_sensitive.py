"""Object-sensitive: make an object look like another place of the image (arXiv 2203.16931, eq. 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.attacks.boxes import Boxes
from deploy_robust.attacks.objectives.references import reference_of
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss


@dataclass(frozen=True, slots=True)
class ObjectSensitive:
    """``-MSE(crop of f(x + delta) at the box, crop of f(x) at the target)``.

    Where the boxes differ in size, the target's crop is resized to the box: bilinear, with anti-aliasing, without
    keeping its aspect ratio. Each image has one box and one target.

    Attributes:
        box: The object.
        target: What it shall look like.
    """

    box: Boxes
    target: Boxes

    @property
    def name(self) -> str:
        """``object``."""
        return "object"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Both boxes as they were given."""
        return {"box": self.box.text, "target": self.target.text}

    def prepare(self, task: Task) -> Loss:
        """Cuts and resizes the targets.

        Raises:
            UsageError: A row has no box or several, or one leaves the image; the task has no clean output.
        """
        y = reference_of(task, "clean-output", self.name).detach().to(task.x)
        rows = []
        for i, (boxes, targets) in enumerate(zip(self.box.of(task), self.target.of(task), strict=True)):
            if len(boxes) != 1 or len(targets) != 1:
                raise UsageError(f"objective object takes one box and one target for each image ({task.keys[i][0]!r})")
            (x0, y0, x1, y1), (tx0, ty0, tx1, ty1) = boxes[0], targets[0]
            crop, size = y[i : i + 1, :, ty0:ty1, tx0:tx1], (y1 - y0, x1 - x0)
            if crop.shape[-2:] != size:
                crop = F.interpolate(crop, size, mode="bilinear", antialias=True, align_corners=False)
            rows.append((boxes[0], crop[0]))

        def loss(restored: Tensor) -> Tensor:
            cut = [restored[i, :, y0:y1, x0:x1] for i, ((x0, y0, x1, y1), _) in enumerate(rows)]
            return -torch.stack([(a - b).square().mean() for a, (_, b) in zip(cut, rows, strict=True)])

        return loss


def object_sensitive(*, box: str = "", target: str = "") -> ObjectSensitive:
    """With boxes as `Boxes.read` reads them.

    Raises:
        UsageError: One is missing or cannot be read.
    """
    if not box or not target:
        raise UsageError("objective object needs box = the object and target = what it shall look like")
    return ObjectSensitive(Boxes.read(box), Boxes.read(target))
