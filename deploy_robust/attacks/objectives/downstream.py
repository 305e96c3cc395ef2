"""Downstream: harm what another network reads in the derained image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from deploy_robust.attacks.objectives.references import reference_of
from deploy_robust.errors import UsageError
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss

Head = Callable[[Tensor], Tensor]
"""Derained images (N, 3, H, W) in [0, 1] to class scores (N, classes, h, w); differentiable."""

HEADS: Registry[Callable[[], Head]] = Registry("head")
"""Segmentation heads by name; one line ``HEADS.add(name, factory)`` adds one."""

IGNORED = 255


@dataclass(frozen=True, slots=True)
class SegmentationLoss:
    """Mean cross-entropy of a segmentation of the output.

    Attributes:
        head: The segmentation network.
        net: What it is, for the record.
        labels: Class index of each pixel by id of the pair, (h, w) of an integer type, 255 ignored; a row whose pair is
            not in it is held against the head's own answer on the clean output.
    """

    head: Head
    net: str
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``segmentation``."""
        return "segmentation"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The head, and whether labels were given."""
        return {"head": self.net, "labelled": bool(self.labels)}

    def prepare(self, task: Task) -> Loss:
        """Fixes the labels.

        Raises:
            UsageError: Labels have another size than the head's answer.
        """
        with torch.no_grad():
            own = self.head(reference_of(task, "clean-output", self.name).to(task.x)).argmax(1)
        rows = []
        for key, guess in zip(task.keys, own, strict=True):
            label = self.labels.get(str(key[0]), guess).to(guess)
            if label.shape != guess.shape:
                raise UsageError(
                    f"labels of {key[0]!r} are {tuple(label.shape)}: resize them to the head's {tuple(guess.shape)}"
                )
            rows.append(label)
        labels = torch.stack(rows)
        counted = (labels != IGNORED).sum((1, 2)).clamp(min=1)

        def loss(restored: Tensor) -> Tensor:
            apart = F.cross_entropy(self.head(restored), labels, ignore_index=IGNORED, reduction="none")
            return apart.sum((1, 2)) / counted

        return loss


def segmentation(*, head: str = "") -> SegmentationLoss:
    """By the name of a registered head.

    Raises:
        UsageError: No such head is registered.
    """
    if head not in HEADS:
        there = ", ".join(HEADS) or "none; add one with HEADS.add(name, factory)"
        raise UsageError(f"objective segmentation needs head = the name of a segmentation head: known are {there}")
    return SegmentationLoss(HEADS[head](), head)
