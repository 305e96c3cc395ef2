"""Downstream: harm what another network reads in the derained image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

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


def _scene_scores() -> Head:
    from deploy_robust.models.vision.seeing import SceneScores

    return SceneScores()


HEADS.add("scene-segmenter", _scene_scores)

Against = Literal["own", "labels"]


@dataclass(frozen=True, slots=True)
class SegmentationLoss:
    """Mean cross-entropy of a segmentation of the output.

    Attributes:
        head: The segmentation network.
        net: What it is, for the record.
        labels: Class index of each pixel by id of the pair, (h, w) of an integer type, 255 ignored; other rows follow
            `against`.
        against: The head's ``own`` answer on the clean output, or the ``labels`` of the image, whose classes are found
            by their names; what the head has no class for is ignored.
    """

    head: Head
    net: str
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    against: Against = "own"

    def __post_init__(self) -> None:
        if self.against not in get_args(Against):
            raise UsageError(f"against must be one of {', '.join(get_args(Against))} (got {self.against!r})")

    @property
    def name(self) -> str:
        """``segmentation``."""
        return "segmentation"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The head, and whether labels were given."""
        return {"head": self.net, "labelled": bool(self.labels), "against": self.against}

    def prepare(self, task: Task) -> Loss:
        """Fixes the labels.

        Raises:
            UsageError: Labels have another size than the head's answer, or an image has none.
        """
        with torch.no_grad():
            own = self.head(reference_of(task, "clean-output", self.name).to(task.x)).argmax(1)
        rows = []
        for i, (key, guess) in enumerate(zip(task.keys, own, strict=True)):
            given = guess if self.against == "own" else self._seen(task, i)
            label = self.labels.get(str(key[0]), given).to(guess)
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

    def _seen(self, task: Task, row: int) -> Tensor:
        """The labels of an image in the head's own numbers, (H, W)."""
        labels = None if task.labels is None else task.labels[row]
        if labels is None or labels.classes is None:
            raise UsageError(
                f"the image {task.keys[row][0]!r} has no labels: attack labelled images, or leave against at own"
            )
        numbers = {name: i for i, name in enumerate(getattr(self.head, "classes", labels.class_names))}
        table = torch.full((256,), IGNORED)
        for i, name in enumerate(labels.class_names):
            table[i] = numbers.get(name, IGNORED)
        return table[torch.from_numpy(labels.classes.copy()).long()]


def segmentation(*, head: str = "scene-segmenter", against: Against = "own") -> SegmentationLoss:
    """By the name of a registered head.

    Raises:
        UsageError: No such head is registered.
    """
    if head not in HEADS:
        there = ", ".join(HEADS)
        raise UsageError(f"objective segmentation needs head = the name of a segmentation head: known are {there}")
    return SegmentationLoss(HEADS[head](), head, against=against)
