"""The attention modules that the robustness benchmark puts into RCDNet (CVPR 2022, Table 3), one class each.

Every module maps (N, C, H, W) to the same shape. Means, softmax over positions and LayerNorm are smooth, so that attack
gradients pass; the maximum in CBAM passes them to one position only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn

from deploy_robust.errors import UsageError
from deploy_robust.models.folding import change_units, fold_batch_norm
from deploy_robust.models.layers import same_conv
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

_SELECTIVE_KERNEL_LEAST = 32


def conv1x1(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    """A linear layer over channels."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)


class Attention(nn.Module, ABC):
    """A module that weighs its input by its content.

    Args:
        channels: C.
        reduction: r; the hidden layer has C // r channels, at least 1.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        if channels < 1 or reduction < 1:
            raise UsageError(f"attention needs channels and reduction of at least 1 (got {channels} and {reduction})")
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""

    @abstractmethod
    def fold(self, unit: float) -> None:
        """Changes the module in place so that it takes ``x / unit`` and gives ``y / unit``; folds BatchNorm."""


class NoAttention(Attention):
    """The identity."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` itself."""
        return x

    def fold(self, unit: float) -> None:
        """Nothing to change."""


class Excitation(nn.Module):
    """conv C -> C/r, ReLU, conv C/r -> C, no biases: homogeneous; (N, C, 1, 1) to the same shape."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = conv1x1(channels, hidden)
        self.expand = conv1x1(hidden, channels)

    def forward(self, g: Tensor) -> Tensor:
        """One weight, or one term, for each channel."""
        answer: Tensor = self.expand(torch.relu(self.reduce(g)))
        return answer


class SEMul(Attention):
    """Squeeze and excitation, ``x * sigmoid(s)`` with s from the mean of every channel.

    J. Hu, L. Shen, G. Sun, CVPR 2018, arXiv:1709.01507; without biases, as the benchmark's published modules are.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.excitation = Excitation(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * torch.sigmoid(self.excitation(x.mean(dim=(2, 3), keepdim=True)))

    def fold(self, unit: float) -> None:
        """The sigmoid needs its own units back."""
        change_units(self.excitation.expand, unit, 1.0)


class SEAdd(Attention):
    """Squeeze and excitation added: ``x + s``, no sigmoid (the benchmark paper, section 4.3)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.excitation = Excitation(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        answer: Tensor = x + self.excitation(x.mean(dim=(2, 3), keepdim=True))
        return answer

    def fold(self, unit: float) -> None:
        """Nothing to change: homogeneous."""


class CBAM(Attention):
    """Channel attention from mean and maximum, then spatial attention from mean and maximum over channels.

    S. Woo et al., ECCV 2018, arXiv:1807.06521. As in the paper's equations, without the BatchNorm that its code has
    behind the 7x7 convolution.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.excitation = Excitation(channels, reduction)
        self.spatial = same_conv(2, 1, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        mean, largest = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        x = x * torch.sigmoid(self.excitation(mean) + self.excitation(largest))
        planes = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (N, 2, H, W)
        return x * torch.sigmoid(self.spatial(planes))

    def fold(self, unit: float) -> None:
        """Both sigmoids need their own units back."""
        change_units(self.excitation.expand, unit, 1.0)
        change_units(self.spatial, unit, 1.0)


class GlobalContext(nn.Module):
    """GCNet's context: an average over positions with learnt weights, then a transform with LayerNorm.

    a = softmax over positions of conv(x), g_c = sum_j a_j x_cj, then conv C -> C/r, LayerNorm, ReLU, conv C/r -> C.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.query = conv1x1(channels, 1, bias=True)
        self.reduce = conv1x1(channels, hidden, bias=True)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.expand = conv1x1(hidden, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1)."""
        weights = torch.softmax(self.query(x).flatten(2), dim=-1)  # (N, 1, H*W)
        context = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(-1)  # (N, C, 1, 1)
        answer: Tensor = self.expand(torch.relu(self.norm(self.reduce(context))))
        return answer

    def fold(self, unit: float, unit_out: float) -> None:
        """Takes ``x / unit``, gives ``s / unit_out``; softmax and LayerNorm (its epsilon) get their own units back."""
        change_units(self.query, unit, 1.0)
        change_units(self.reduce, unit, 1.0)
        change_units(self.expand, 1.0, unit_out)


class GCMul(Attention):
    """Global context as a factor: ``x * sigmoid(s)``; Y. Cao et al., GCNet, arXiv:1904.11492."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.context = GlobalContext(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * torch.sigmoid(self.context(x))

    def fold(self, unit: float) -> None:
        """See `GlobalContext.fold`."""
        self.context.fold(unit, 1.0)


class GCAdd(Attention):
    """Global context as a term: ``x + s``; Y. Cao et al., GCNet, arXiv:1904.11492."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        self.context = GlobalContext(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        answer: Tensor = x + self.context(x)
        return answer

    def fold(self, unit: float) -> None:
        """See `GlobalContext.fold`."""
        self.context.fold(unit, unit)


class SK(Attention):
    """Selective kernels: two branches with fields of 3 and 5 pixels, mixed for each channel by a softmax.

    U_1, U_2 = ReLU(BN(conv(x))) with dilations 1 and 2; z = ReLU(BN(linear of the mean of U_1 + U_2)); the answer is
    a_1 U_1 + a_2 U_2 with (a_1, a_2) the softmax of two linear layers of z. X. Li et al., CVPR 2019, arXiv:1903.06586;
    groups of 1 where the paper has 32, since 35 channels do not divide. Training it needs batches of two images or more
    (BatchNorm of means).
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__(channels, reduction)
        hidden = max(channels // reduction, _SELECTIVE_KERNEL_LEAST)
        self.branch1 = nn.Sequential(same_conv(channels, channels, bias=False), nn.BatchNorm2d(channels))
        self.branch2 = nn.Sequential(same_conv(channels, channels, dilation=2, bias=False), nn.BatchNorm2d(channels))
        self.reduce = nn.Sequential(conv1x1(channels, hidden), nn.BatchNorm2d(hidden))
        self.select1 = conv1x1(hidden, channels, bias=True)
        self.select2 = conv1x1(hidden, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        u1, u2 = torch.relu(self.branch1(x)), torch.relu(self.branch2(x))
        z = torch.relu(self.reduce((u1 + u2).mean(dim=(2, 3), keepdim=True)))
        # A softmax over two is a sigmoid of their difference.
        a1 = torch.sigmoid(self.select1(z) - self.select2(z))
        return a1 * u1 + (1 - a1) * u2

    def fold(self, unit: float) -> None:
        """BatchNorm into the three convolutions; the softmax gets its own units back."""
        for name in ("branch1", "branch2", "reduce"):
            conv, norm = getattr(self, name)
            folded = fold_batch_norm(conv, norm)
            change_units(folded, unit, unit)
            setattr(self, name, folded)
        for select in (self.select1, self.select2):
            change_units(select, unit, 1.0)


ATTENTIONS: Registry[type[Attention]] = Registry("attention module")
"""The modules by the names of the paper's Table 3."""

ATTENTIONS.add("none", NoAttention)
ATTENTIONS.add("se-mul", SEMul)
ATTENTIONS.add("se-add", SEAdd)
ATTENTIONS.add("cbam", CBAM)
ATTENTIONS.add("gc-mul", GCMul)
ATTENTIONS.add("gc-add", GCAdd)
ATTENTIONS.add("sk", SK)
