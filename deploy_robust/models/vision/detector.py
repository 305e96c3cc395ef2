"""Detection of objects as centres with distances to the four sides of their boxes, without anchors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from deploy_robust.models.vision.network import Body, VisionNetwork, VisionTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CELL = 2
"""Pixels between neighbouring places of the answer."""

SIDES = 4

_RARE = -4.0
"""Score before the sigmoid at which training starts: objects are rare (focal loss, Lin et al., ICCV 2017)."""


class Detector(VisionNetwork):
    """Images (N, 3, H, W) in [0, 1] to (N, K + 4, H / 2, W / 2).

    The first K channels are scores, before the sigmoid, that an object of a class is centred at a place; the last four
    the distances in pixels from the middle of the place to the left, upper, right and lower side of its box, above 0
    (CenterNet, Zhou et al., arXiv:1904.07850; distances as in TTFNet, Liu et al., AAAI 2020).

    Args:
        classes: Names of the K classes.
        widths: Channels of the body's levels.
        top: Channels before the heads.
    """

    task: ClassVar[VisionTask] = "detection"

    def __init__(self, *, classes: Sequence[str], widths: Sequence[int] = (16, 32, 48, 64), top: int = 32) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.body = Body(tuple(widths), top)
        self.score = nn.Conv2d(top, len(self.classes), 1)
        self.reach = nn.Conv2d(top, SIDES, 1)
        nn.init.constant_(self.score.bias, _RARE)  # type: ignore[arg-type]  # it has a bias
        nn.init.constant_(self.reach.bias, 1.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Scores and distances, (N, K + 4, H / 2, W / 2)."""
        y = self.body(x)
        # Bounded, so that exp cannot overflow in half precision: e^6 = 403 pixels.
        return torch.cat((self.score(y), self.reach(y).clamp(-6.0, 6.0).exp()), 1)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """The four levels of the body."""
        return self.body.levels(x)
