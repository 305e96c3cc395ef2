"""Operators that make values from attributes or sizes, and the two quantisation operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.engines.literal.graph import to_tensor
from deploy_robust.engines.literal.operators import ints, operator
from deploy_robust.engines.literal.quantisers import dequantise

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


@operator("Constant", moves=True)
def constant(node: Node) -> Compute:
    """A tensor, or numbers."""
    (kind,) = node.attributes
    held = node.attributes[kind]
    if kind == "value":
        tensor = to_tensor(held)
    elif kind in ("value_float", "value_floats"):
        tensor = torch.tensor(held, dtype=torch.float32)
    elif kind in ("value_int", "value_ints"):
        tensor = torch.tensor(held, dtype=torch.int64)
    else:
        raise node.refused(f"a constant given as {kind}")
    return lambda: tensor


@operator("ConstantOfShape", moves=True, host=(0,))
def constant_of_shape(node: Node) -> Compute:
    """One value everywhere; float32 zero unless said otherwise."""
    held = node.attributes.get("value")
    value = torch.zeros(1) if held is None else to_tensor(held)
    return lambda shape: value.reshape(()).expand(ints(shape))


@operator("Range", host=(0, 1, 2))
def number_range(node: Node) -> Compute:  # noqa: ARG001
    """From start, up to but without limit, in steps of delta."""

    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)

    return run


@operator("Shape", moves=True)
def shape(node: Node) -> Compute:
    """Sizes, on the CPU wherever the tensor is: they are needed as Python numbers later."""
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@operator("Size", moves=True)
def size(node: Node) -> Compute:  # noqa: ARG001
    """Number of values."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


operator("DequantizeLinear", ignores=("output_dtype",))(dequantise)  # every node is rounded to its output's type
