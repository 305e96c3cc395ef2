"""Layers that several networks use."""

from __future__ import annotations

from torch import nn


def same_conv(inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution with an odd kernel, stride 1, zero padding, that keeps height and width."""
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias)
