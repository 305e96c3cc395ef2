"""Blocks of MPRNet and of the ensemble made of it: attention blocks, changes of size, patches as rows of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from deploy_robust.errors import UsageError
from deploy_robust.models.attention import ATTENTIONS
from deploy_robust.models.layers import same_conv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

SIDE_BRANCH_GAIN = 0.1
"""Weight of every branch of an attention block but the first (CVPR 2022)."""

SQUEEZE_REDUCTION = 4
"""Reduction of every channel attention (both papers)."""


class Branch(nn.Module):
    """Two dilated 3x3 convolutions with a PReLU between them, then channel attention; (N, C, H, W) to the same."""

    def __init__(self, width: int, hidden: int, dilation: int, attention: str) -> None:
        super().__init__()
        self.first = conv3x3(width, hidden, dilation)
        self.second = conv3x3(hidden, width, dilation)
        self.attention = ATTENTIONS[attention](width, reduction=SQUEEZE_REDUCTION)

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        """See the class."""
        answer: Tensor = self.attention(self.second(F.prelu(self.first(x), slope)))
        return answer


class AttentionBlock(nn.Module):
    """The channel attention block of MPRNet (CAB), with as many dilated branches as the ensemble gives it.

    ``y = x + branch_1(x) + 0.1 * (branch_2(x) + branch_3(x) + ...)``; (N, C, H, W) to the same.

    The slope of its PReLUs is one number for a whole network. It is handed through every `forward` rather than held
    here, so that a state dict holds it once and no export or copy can split it.

    Args:
        width: Channels C.
        dilations: Dilation of each branch.
        branch_reduction: The branches after the first are narrower by this factor between their two convolutions.
        attention: Name in `ATTENTIONS` of what ends each branch.

    Raises:
        UsageError: An argument is out of range, or the attention unknown.
    """

    def __init__(
        self,
        width: int,
        *,
        dilations: Sequence[int] = (1,),
        branch_reduction: int = 1,
        attention: str = "se-mul",
    ) -> None:
        if not dilations or min(dilations) < 1 or branch_reduction < 1:
            raise UsageError(
                "an attention block needs dilations and a branch reduction of at least 1 "
                f"(got {tuple(dilations)} and {branch_reduction})"
            )
        super().__init__()
        narrow = max(1, width // branch_reduction)
        self.branches = nn.ModuleList(
            Branch(width, narrow if k else width, dilation, attention) for k, dilation in enumerate(dilations)
        )

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        """See the class; `slope` is (1,)."""
        y: Tensor = x + self.branches[0](x, slope)
        for branch in list(self.branches)[1:]:
            y = y + SIDE_BRANCH_GAIN * branch(x, slope)
        return y


class BlockChain(nn.Module):
    """Attention blocks one after another; (N, C, H, W) to the same."""

    def __init__(self, width: int, length: int, block: Callable[[int], AttentionBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(width) for _ in range(length))

    def forward(self, x: Tensor, slope: Tensor) -> Tensor:
        """See the class."""
        for block in self.blocks:
            x = block(x, slope)
        return x


class Down(nn.Module):
    """Half the size, by averaging 2x2 pixels, and another width; equal to bilinear resizing where sizes are even."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv1x1(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H/2, W/2)."""
        answer: Tensor = self.conv(F.avg_pool2d(x, kernel_size=2))
        return answer


class Up(nn.Module):
    """Twice the size, bilinearly, and another width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv1x1(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', 2H, 2W)."""
        answer: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        return answer


def conv1x1(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution without bias: MPRNet has no biases."""
    return same_conv(inputs, outputs, 1, bias=False)


def conv3x3(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size."""
    return same_conv(inputs, outputs, dilation=dilation, bias=False)


def split_in_two(x: Tensor, axis: int) -> Tensor:
    """Cuts images in two along height or width (-2 or -1; even) and stacks the first halves over the second ones.

    (N, C, H, W) to (2N, C, ...): equal patches of a network then run as one batch.
    """
    half = x.shape[axis] // 2
    return torch.cat([x.narrow(axis, 0, half), x.narrow(axis, half, half)])


def join_two(x: Tensor, axis: int) -> Tensor:
    """The reverse of `split_in_two`."""
    rows = x.shape[0] // 2
    return torch.cat([x[:rows], x[rows:]], dim=axis)
