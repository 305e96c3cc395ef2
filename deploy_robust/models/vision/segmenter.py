"""Semantic segmentation of street scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F
from torch import nn

from deploy_robust.models.vision.network import Body, VisionNetwork, VisionTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Segmenter(VisionNetwork):
    """Images (N, 3, H, W) in [0, 1] to class scores (N, K, H, W), before the softmax.

    The body works at half the resolution; its head gives each place the scores of its four pixels (sub-pixel
    convolution, Shi et al., CVPR 2016), so that poles a pixel wide are not lost to interpolation.

    Args:
        classes: Names of the K classes.
        widths: Channels of the body's levels.
        top: Channels before the head.
    """

    task: ClassVar[VisionTask] = "segmentation"

    def __init__(self, *, classes: Sequence[str], widths: Sequence[int] = (16, 32, 48, 64), top: int = 24) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.body = Body(tuple(widths), top)
        self.head = nn.Conv2d(top, 4 * len(self.classes), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores, (N, K, H, W)."""
        return F.pixel_shuffle(self.head(self.body(x)), 2)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """The four levels of the body."""
        return self.body.levels(x)
