"""Exact changes of weights before an export: other units inside, BatchNorm inside its convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_UNIT = 255.0
"""White in the native units of networks that work in 0..255."""


class Native(Protocol):
    """A network that can be called in its own units."""

    def native(self, x: Tensor) -> Tensor:
        """The final image, (N, 3, H, W), input and output in the network's own units."""
        ...


class FoldedNetwork(nn.Module):
    """A network whose weights were changed so that its own units are [0, 1]: nothing is left to scale.

    Args:
        network: A changed copy, of which only `native` still means anything.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Rainy (N, 3, H, W) in [0, 1] to derained."""
        network: Native = self.network  # type: ignore[assignment]  # nn.Module hides the type
        return network.native(x)


@torch.no_grad()
def change_units(layer: nn.Conv2d | nn.Linear, unit_in: float, unit_out: float) -> None:
    """Changes a layer in place so that it takes ``x / unit_in`` and gives ``y / unit_out``.

    With equal units only the bias changes: convolutions, ReLU, sums and averages are homogeneous, so that a network
    made of them moves to other units by its biases alone.
    """
    layer.weight.mul_(unit_in / unit_out)
    if layer.bias is not None:
        layer.bias.div_(unit_out)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution with bias that does what `conv` and `norm` with its running statistics do; computed in float64.

    Raises:
        ValueError: `norm` keeps no running statistics.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("only BatchNorm with running statistics can be folded")
    bias = None if conv.bias is None else conv.bias.detach().double()
    weight, bias = fuse_conv_bn_weights(
        conv.weight.detach().double(),
        bias,
        mean.double(),
        variance.double(),
        norm.eps,
        norm.weight.detach().double(),
        norm.bias.detach().double(),
    )
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=conv.weight.shape[-1],
        padding=conv.padding,  # type: ignore[arg-type]  # torch types its own attribute wider than its argument
        dilation=conv.dilation,  # type: ignore[arg-type]
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        folded.weight.copy_(weight)
        assert folded.bias is not None  # noqa: S101  # for the type checker: Conv2d was asked for a bias
        folded.bias.copy_(bias)
    return folded.eval()
