"""The union of boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.boxes import Boxes
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task


@dataclass(frozen=True, slots=True)
class InBoxes:
    """Pixels inside any of an image's boxes.

    Attributes:
        boxes: The boxes.
    """

    boxes: Boxes

    @property
    def name(self) -> str:
        """``boxes``."""
        return "boxes"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The boxes as they were given."""
        return {"boxes": self.boxes.text}

    def region(self, task: Task) -> Tensor:
        """Their union.

        Raises:
            UsageError: An image has no box, or one leaves it.
        """
        region = torch.zeros_like(task.x[:, :1], dtype=torch.bool)
        for i, boxes in enumerate(self.boxes.of(task)):
            for x0, y0, x1, y1 in boxes:
                region[i, :, y0:y1, x0:x1] = True
        return region


def in_boxes(*, boxes: str = "") -> InBoxes:
    """With boxes as `Boxes.read` reads them.

    Raises:
        UsageError: They are missing or cannot be read.
    """
    if not boxes:
        raise UsageError("mask boxes needs boxes = x0,y0,x1,y1;... or a .json file")
    return InBoxes(Boxes.read(boxes))
