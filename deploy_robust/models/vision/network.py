"""The outer contract of a network that looks at an image, and the body that the shipped ones share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.errors import UsageError
from deploy_robust.models.layers import same_conv

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.models.derainer import ModelIdentity

VisionTask = Literal["segmentation", "detection"]

STRIDE = 16
"""Pixels between neighbours on the coarsest level: heights and widths are multiples of it."""


class VisionNetwork(nn.Module):
    """RGB images (N, 3, H, W) float32 in [0, 1] to a dense answer; differentiable.

    Attributes:
        task: What the answer means.
        classes: Names of what it tells apart, in the order of its channels.
        size_rule: Heights and widths that it accepts as they are.
    """

    task: ClassVar[VisionTask]
    size_rule: ClassVar[SizeRule] = SizeRule(multiple=STRIDE)
    classes: tuple[str, ...]
    identity: ModelIdentity

    def __call__(self, x: Tensor) -> Tensor:
        """The dense answer; typed here because `nn.Module` is not."""
        answer: Tensor = super().__call__(x)
        return answer

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps from fine to coarse, for perceptual distances; (N, C, h, w) each.

        Args:
            x: Images, (N, 3, H, W) float32 in [0, 1], sides multiples of `STRIDE`.
        """
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """Number of trainable values."""
        return sum(parameter.numel() for parameter in self.parameters())


class Unit(nn.Sequential):
    """Convolution, BatchNorm, ReLU; (N, C, H, W) to (N, C', H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        conv = same_conv(inputs, outputs, dilation=dilation, bias=False)
        conv.stride = (stride, stride)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """``ReLU(x + BN(conv(Unit(x))))``; the second convolution may be dilated; (N, C, H, W) to the same."""

    def __init__(self, width: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.first = Unit(width, width)
        self.second = same_conv(width, width, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """One block; (N, C, H, W)."""
        return torch.relu(x + self.norm(self.second(self.first(x))))


class Body(nn.Module):
    """A U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) that starts and ends at half the resolution.

    Down to a sixteenth in four strided convolutions with a residual block after each, dilated on the coarsest level for
    context; up again by bilinear interpolation, each time joined with the level above.

    Args:
        widths: Channels at a half, a quarter, an eighth and a sixteenth of the resolution.
        top: Channels of the answer.

    Raises:
        UsageError: There are not four widths, or one is below 1.
    """

    def __init__(self, widths: tuple[int, ...], top: int) -> None:
        super().__init__()
        if len(widths) != 4 or min(*widths, top) < 1:
            raise UsageError(f"the body needs four widths of at least 1 and a top of at least 1 (got {widths}, {top})")
        self.down = nn.ModuleList()
        inputs = 3
        for width in widths:
            self.down.append(nn.Sequential(Unit(inputs, width, stride=2), Residual(width)))
            inputs = width
        self.context = Residual(inputs, dilation=2)
        self.up = nn.ModuleList()
        for width in (*widths[-2:0:-1], top):
            beside = widths[2 - len(self.up)]
            self.up.append(Unit(inputs + beside, width))
            inputs = width
        self.top = Unit(top, top)

    def levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each level sees, at a half, a quarter, an eighth and a sixteenth of the resolution; (N, C, h, w)."""
        x = (x - 0.5) / 0.25
        found = []
        for level in self.down:
            x = level(x)
            found.append(x)
        return tuple(found)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] to (N, top, H / 2, W / 2)."""
        *finer, y = self.levels(x)
        y = self.context(y)
        for unit in self.up:
            beside = finer.pop()
            y = F.interpolate(y, size=beside.shape[-2:], mode="bilinear", align_corners=False)
            y = unit(torch.cat((y, beside), 1))
        answer: Tensor = self.top(y)
        return answer
