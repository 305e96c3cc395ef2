"""Object-sensitive: make an object look like another place of the image (arXiv 2203.16931, eq. 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.attacks.boxes import Boxes, beside, largest
from deploy_robust.attacks.objectives.references import reference_of
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.boxes import Corners
    from deploy_robust.attacks.objectives.objective import Loss
    from deploy_robust.keyed import Part

BESIDE = "beside"
"""Target: the place beside the object."""


@dataclass(frozen=True, slots=True)
class ObjectSensitive:
    """``-MSE(crop of f(x + delta) at the box, crop of f(x) at the target)``.

    Where the boxes differ in size, the target's crop is resized to the box: bilinear, with anti-aliasing, without
    keeping its aspect ratio. Each image has one box and one target. By labels it is the largest object, and an image
    without one has a loss of 0, so that nothing is to be gained.

    Attributes:
        box: The object.
        target: What it shall look like; None for the place beside the object, of its size.
    """

    box: Boxes
    target: Boxes | None

    @property
    def name(self) -> str:
        """``object``."""
        return "object"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Both boxes as they were given."""
        return {"box": self.box.text, "target": BESIDE if self.target is None else self.target.text}

    def prepare(self, task: Task) -> Loss:
        """Cuts and resizes the targets.

        Raises:
            UsageError: A row has no box or several, or one leaves the image; the task has no clean output.
        """
        y = reference_of(task, "clean-output", self.name).detach().to(task.x)
        rows = [self._target_of(y[i], *each, key=task.keys[i][0]) for i, each in enumerate(self._places(task))]

        def loss(restored: Tensor) -> Tensor:
            return -torch.stack([_apart(image, *row) for image, row in zip(restored, rows, strict=True)])

        return loss

    def _places(self, task: Task) -> Iterator[tuple[tuple[Corners, ...], tuple[Corners, ...]]]:
        """Boxes and targets of each row."""
        boxes = [(largest(each),) if each and self.box.label else each for each in self.box.of(task)]
        if self.target is None:
            yield from ((each, tuple(beside(box, task.x.shape[-1]) for box in each)) for each in boxes)
            return
        for each, targets in zip(boxes, self.target.of(task), strict=True):
            yield each, (largest(targets),) if targets and self.target.label else targets

    def _target_of(
        self, y: Tensor, boxes: tuple[Corners, ...], targets: tuple[Corners, ...], *, key: Part
    ) -> tuple[Corners | None, Tensor]:
        """The box of a row and what it shall look like; None where the row has nothing to hide."""
        if (self.box.label and not boxes) or (self.target is not None and self.target.label and not targets):
            return None, y
        if len(boxes) != 1 or len(targets) != 1:
            raise UsageError(f"objective object takes one box and one target for each image ({key!r})")
        (x0, y0, x1, y1), (tx0, ty0, tx1, ty1) = boxes[0], targets[0]
        crop, size = y[None, :, ty0:ty1, tx0:tx1], (y1 - y0, x1 - x0)
        if crop.shape[-2:] != size:
            crop = F.interpolate(crop, size, mode="bilinear", antialias=True, align_corners=False)
        return boxes[0], crop[0]


def _apart(restored: Tensor, box: Corners | None, wanted: Tensor) -> Tensor:
    """Mean squared difference of the object (3, H, W) in its box and what it shall look like."""
    if box is None:
        return 0 * restored[:, :1, :1].sum()
    x0, y0, x1, y1 = box
    return (restored[:, y0:y1, x0:x1] - wanted).square().mean()


def object_sensitive(*, box: str = "", target: str = "") -> ObjectSensitive:
    """With boxes as `Boxes.read` reads them; ``target = beside`` is the place beside the object.

    Raises:
        UsageError: One is missing or cannot be read.
    """
    if not box or not target:
        raise UsageError("objective object needs box = the object and target = what it shall look like")
    return ObjectSensitive(Boxes.read(box), None if target == BESIDE else Boxes.read(target))
