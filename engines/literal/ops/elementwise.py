"""Operators that treat every value alone: arithmetic, activations, comparisons, casts."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.graph import held_dtype
from deploy_robust.engines.literal.operators import operator, plain

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

plain(
    {
        "Abs": torch.abs,
        "Acos": torch.acos,
        "Acosh": torch.acosh,
        "Add": torch.add,
        "And": torch.logical_and,
        "Asin": torch.asin,
        "Asinh": torch.asinh,
        "Atan": torch.atan,
        "Atanh": torch.atanh,
        "Ceil": torch.ceil,
        "Cos": torch.cos,
        "Cosh": torch.cosh,
        "Equal": torch.eq,
        "Erf": torch.erf,
        "Exp": torch.exp,
        "Floor": torch.floor,
        "Greater": torch.gt,
        "GreaterOrEqual": torch.ge,
        "HardSwish": F.hardswish,
        "IsNaN": torch.isnan,
        "Less": torch.lt,
        "LessOrEqual": torch.le,
        "Log": torch.log,
        "Mish": F.mish,
        "Mul": torch.mul,
        "Not": torch.logical_not,
        "Or": torch.logical_or,
        "Reciprocal": torch.reciprocal,
        "Round": torch.round,
        "Sigmoid": torch.sigmoid,
        "Sign": torch.sign,
        "Sin": torch.sin,
        "Sinh": torch.sinh,
        "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        "Softsign": F.softsign,
        "Sqrt": torch.sqrt,
        "Sub": torch.sub,
        "Tan": torch.tan,
        "Tanh": torch.tanh,
        "Xor": torch.logical_xor,
        "Sum": lambda *terms: reduce(torch.add, terms),
        "Mean": lambda *terms: reduce(torch.add, terms) / len(terms),
    }
)
plain(
    {
        "Identity": lambda x: x,
        "Max": lambda *all_of: reduce(torch.maximum, all_of),
        "Min": lambda *all_of: reduce(torch.minimum, all_of),
        "Neg": torch.neg,
        "Relu": torch.relu,
        "Where": torch.where,
    },
    moves=True,
)


@operator("Div")
def divide(node: Node) -> Compute:  # noqa: ARG001
    """Whole numbers are divided towards zero."""

    def run(a: Tensor, b: Tensor) -> Tensor:
        return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")

    return run


@operator("Mod")
def modulo(node: Node) -> Compute:
    """With ``fmod`` the sign is that of the dividend, else that of the divisor."""
    return torch.fmod if node.attributes.get("fmod", 0) else torch.remainder


@operator("Pow")
def power(node: Node) -> Compute:  # noqa: ARG001
    """The result is of the base's type."""
    return lambda base, exponent: torch.pow(base, exponent).to(base.dtype)


@operator("PRelu")
def prelu(node: Node) -> Compute:  # noqa: ARG001
    """A slope below zero that broadcasts; torch's own function is faster and knows one slope for each channel."""

    def run(x: Tensor, slope: Tensor) -> Tensor:
        if slope.numel() == 1 or (x.dim() == slope.dim() + 1 and slope.numel() == slope.shape[0] == x.shape[1]):
            return F.prelu(x, slope.reshape(-1))
        return torch.where(x < 0, x * slope, x)

    return run


@operator("LeakyRelu")
def leaky_relu(node: Node) -> Compute:
    """``x`` or ``alpha * x``."""
    alpha = node.attributes.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@operator("Elu")
def elu(node: Node) -> Compute:
    """``x`` or ``alpha * (exp(x) - 1)``."""
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Celu")
def celu(node: Node) -> Compute:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Selu")
def selu(node: Node) -> Compute:
    """A scaled Elu."""
    alpha, gamma = node.attributes.get("alpha", 1.67326319217681884), node.attributes.get("gamma", 1.05070102214813232)
    return lambda x: gamma * F.elu(x, alpha)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Compute:
    """``x`` above alpha, else 0."""
    alpha = node.attributes.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Compute:
    """``alpha * x + beta`` within 0 and 1."""
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


@operator("Gelu")
def gelu(node: Node) -> Compute:
    """Exact, or by tanh."""
    how = node.attributes.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=how)


@operator("IsInf")
def is_infinite(node: Node) -> Compute:
    """Either sign, or one of them."""
    up, down = node.attributes.get("detect_positive", 1), node.attributes.get("detect_negative", 1)
    return lambda x: (torch.isposinf(x) & bool(up)) | (torch.isneginf(x) & bool(down))


@operator("Clip", moves=True)
def clip(node: Node) -> Compute:  # noqa: ARG001
    """Bounds are inputs, each optional."""

    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        if x.device.type == "cpu":  # numbers are faster than tensors, and reading them costs nothing here
            bounds = [math.nan if bound is None else bound.item() for bound in (low, high)]
            if low is None and high is None:
                return x
            return x.clamp(*(None if math.isnan(bound) else bound for bound in bounds))
        return x if low is None and high is None else torch.clamp(x, low, high)

    return run


@operator("Dropout", ignores=("ratio", "seed"))
def dropout(node: Node) -> Compute:
    """Nothing, outside training."""
    if len(node.inputs) > 2 and node.inputs[2]:
        raise node.refused("dropout in training mode")
    if len(node.outputs) > 1 and node.outputs[1]:
        return lambda x, ratio=None: (x, torch.ones_like(x, dtype=torch.bool))  # noqa: ARG005
    return lambda x, ratio=None: x  # noqa: ARG005


@operator("Cast", ignores=("saturate", "round_mode"))  # of 8-bit floats, which are refused
def cast(node: Node) -> Compute:
    """To another type; rounding to float16 and bfloat16 follows every node of these types, this one included."""
    return _to(node, node.attributes["to"])


@operator("CastLike", ignores=("saturate", "round_mode"))
def cast_like(node: Node) -> Compute:
    """To the type of the second input."""
    convert = _to(node, node.input_types[1])
    return lambda x, _: convert(x)


def _to(node: Node, element: int) -> Compute:
    import onnx

    name, to = onnx.TensorProto.DataType.Name(element), held_dtype(element)
    if name.startswith("FLOAT8"):
        raise node.refused(f"a cast to {name.lower()}")
    if name in ("INT4", "UINT4"):  # held in 8 bits; what does not fit loses its upper bits, as in wider types
        low = -8 if name == "INT4" else 0
        return lambda x: torch.remainder(x.long() - low, 16).add(low).to(to)
    return lambda x: x.to(to)
