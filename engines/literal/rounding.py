"""Rounding to narrower floating-point types, as a graph of that type stores every value, with usable gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


class _Round(torch.autograd.Function):
    """Rounds forward, passes the gradient backward as it is: a half-precision gradient would underflow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG004
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None


def round_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest values of a narrower type, ties to even, above its largest one infinite; held in the type of `x`.

    Args:
        x: Floating point, any shape.
        dtype: ``torch.float16`` or ``torch.bfloat16``.
    """
    rounded: Tensor = _Round.apply(x, dtype)
    return rounded


def narrow_dtype(element: int) -> torch.dtype | None:
    """The torch type to which values of an ONNX element type are rounded; None for float32 and what is no float."""
    import onnx

    return {onnx.TensorProto.FLOAT16: torch.float16, onnx.TensorProto.BFLOAT16: torch.bfloat16}.get(element)
