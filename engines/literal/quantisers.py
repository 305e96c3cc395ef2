"""QuantizeLinear and DequantizeLinear exactly as ONNX writes them, with straight-through gradients.

Forward: ``saturate(round_half_even(x / scale) + zero_point)`` and ``(code - zero_point) * scale``. torch's own
fake quantisation multiplies by 1 / scale, which gives other codes.

Backward, `Gradient`: ``clamp`` passes the gradient where the quantiser did not saturate. It must be the default: the
quantisers of ONNX Runtime delete the Relu in front of a zero point at the end of the range, so that the saturation
*is* the Relu. ``pass`` ignores saturation.

Codes are held as float32 between the two, so that gradients pass through either alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from deploy_robust.engines.literal.rounding import narrow_dtype, round_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node

Gradient = Literal["clamp", "pass"]

_MARGIN = 1e-3
"""In steps of the quantiser: a value exactly at the end of the range, like a white pixel, did not saturate."""

_INTEGERS: dict[str, tuple[float, float]] = {
    "UINT8": (0, 255),
    "INT8": (-128, 127),
    "UINT16": (0, 65535),
    "INT16": (-32768, 32767),
    "UINT4": (0, 15),
    "INT4": (-8, 7),
}
_FLOATS = {"FLOAT8E4M3FN": torch.float8_e4m3fn, "FLOAT8E5M2": torch.float8_e5m2}


@dataclass(frozen=True, slots=True)
class Codes:
    """What a quantised value can be.

    Attributes:
        low: Smallest code.
        high: Largest code.
        floating: The 8-bit floating-point type whose values the codes are; None for integers.
    """

    low: float
    high: float
    floating: torch.dtype | None = None

    def rounded(self, x: Tensor) -> Tensor:
        """The nearest codes, in place where possible; `x` lies within the range."""
        return x.round_() if self.floating is None else x.to(self.floating).to(x.dtype)


def codes_of(node: Node) -> Codes:
    """The codes of a QuantizeLinear node.

    Raises:
        ArtefactError: They are of a type that is not covered.
    """
    import onnx

    element = node.attributes.get("output_dtype", 0)
    if len(node.inputs) > 2 and node.inputs[2]:
        element = node.input_types[2] or element or node.output_types[0]
    name = onnx.TensorProto.DataType.Name(element or onnx.TensorProto.UINT8)
    saturates = node.attributes.get("saturate", 1)
    if name in _INTEGERS:
        return Codes(*_INTEGERS[name])
    if name in _FLOATS and saturates:
        largest = torch.finfo(_FLOATS[name]).max
        return Codes(-largest, largest, _FLOATS[name])
    raise node.refused(f"it quantises to {name.lower()}")


def quantise(node: Node, gradient: Gradient, *, back: bool = False) -> Callable[..., Tensor]:
    """The function of a QuantizeLinear node: values, scale, zero point to codes.

    With `back` it is that of the node and of the DequantizeLinear behind it, for codes that nothing else reads: the
    same bits in fewer passes over memory.
    """
    _refuse_blocks(node)
    function = _QuantiseAndBack if back else _Quantise
    codes, axis = codes_of(node), node.attributes.get("axis", 1)
    narrow = _division_type(node)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scale, offset = _along(scale, x.dim(), axis), _offset(zero, scale, x.dim(), axis)
        straight: Tensor = function.apply(x, scale, offset, codes, narrow, gradient)
        return straight

    return run


def dequantise(node: Node) -> Callable[..., Tensor]:
    """The function of a DequantizeLinear node: codes, scale, zero point to values."""
    _refuse_blocks(node)
    axis = node.attributes.get("axis", 1)

    def run(code: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scale = _along(scale, code.dim(), axis)
        if not code.is_floating_point():  # in 64 bits, since 8 unsigned ones wrap and float32 is too short for 32
            code = code.long()
            if zero is not None:
                code = code - _along(zero.long(), code.dim(), axis)
            return code.to(scale.dtype) * scale
        return (code if zero is None else code - _offset(zero, scale, code.dim(), axis)) * scale

    return run


class _Quantise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, codes: Codes, narrow: torch.dtype | None, gradient: Gradient
    ) -> Tensor:
        ctx.codes, ctx.clamps = codes, gradient == "clamp"
        ctx.save_for_backward(x, scale, offset)
        return _steps(x, scale, offset, codes, narrow).add_(offset)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        x, scale, offset = ctx.saved_tensors
        if ctx.clamps:
            gradient = _inside(gradient, x, scale, offset, ctx.codes)
        return gradient / scale, None, None, None, None, None


class _QuantiseAndBack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, codes: Codes, narrow: torch.dtype | None, gradient: Gradient
    ) -> Tensor:
        ctx.codes, ctx.clamps = codes, gradient == "clamp"
        if ctx.clamps:
            ctx.save_for_backward(x, scale, offset)
        return _steps(x, scale, offset, codes, narrow).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        if ctx.clamps:
            x, scale, offset = ctx.saved_tensors
            gradient = _inside(gradient, x, scale, offset, ctx.codes)
        return gradient, None, None, None, None, None


def _steps(x: Tensor, scale: Tensor, offset: Tensor, codes: Codes, narrow: torch.dtype | None) -> Tensor:
    """``code - zero_point``: saturating at whole numbers and then rounding gives the same as the other way round."""
    # The scale is a tensor: by a Python number CUDA would multiply with the reciprocal.
    quotient = torch.div(x, scale)
    if narrow is not None:
        quotient = round_to(quotient, narrow)
    low, high = _range(offset, codes)
    return codes.rounded(torch.clamp(quotient, low, high, out=quotient))


def _inside(gradient: Tensor, x: Tensor, scale: Tensor, offset: Tensor, codes: Codes) -> Tensor:
    """The gradient where `x` did not saturate, zero elsewhere."""
    low, high = _range(offset, codes)
    if isinstance(low, float) and scale.dim() == 0:
        step = scale.item()
        inside: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, (low - _MARGIN) * step, (high + _MARGIN) * step)
        return inside
    return torch.where((x >= (low - _MARGIN) * scale) & (x <= (high + _MARGIN) * scale), gradient, 0)


def _range(offset: Tensor, codes: Codes) -> tuple[Any, Any]:
    """Smallest and largest ``code - zero_point``: numbers on the CPU, where they are faster, else tensors."""
    shift = offset.item() if offset.dim() == 0 and offset.device.type == "cpu" else offset
    return codes.low - shift, codes.high - shift


def _along(parameter: Tensor, rank: int, axis: int) -> Tensor:
    """A scale or zero point shaped so that it broadcasts: 0-dimensional, or along `axis` of `rank` dimensions."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)


def _offset(zero: Tensor | None, scale: Tensor, rank: int, axis: int) -> Tensor:
    return torch.zeros_like(scale) if zero is None else _along(zero.to(scale.dtype), rank, axis)


def _refuse_blocks(node: Node) -> None:
    if node.attributes.get("block_size", 0):
        raise node.refused("blocked quantisation")


def _division_type(node: Node) -> torch.dtype | None:
    """The narrow type in which x / scale is rounded: that of the scale, unless the node says otherwise (opset 23)."""
    return narrow_dtype(node.attributes.get("precision", 0) or (node.input_types[1] if len(node.inputs) > 1 else 0))
