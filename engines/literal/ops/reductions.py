"""Reductions over axes, and the two softmaxes."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.engines.literal.operators import ints, operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


def _product(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim, dtype=x.dtype)
    return x


def _sum(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    return x.sum(axes, keepdim, dtype=x.dtype)


def _extreme(x: Tensor, axes: list[int], keepdim: bool, *, largest: bool) -> Tensor:
    """The largest or smallest value; over nothing, the value below or above all others of the type."""
    if all(x.shape[axis] for axis in axes):
        return (torch.amax if largest else torch.amin)(x, axes, keepdim)
    if x.dtype == torch.bool:
        nothing: Any = not largest
    elif x.is_floating_point():
        nothing = -math.inf if largest else math.inf
    else:
        nothing = torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max
    return torch.full_like(x.sum(axes, keepdim, dtype=x.dtype), nothing)


_REDUCTIONS: dict[str, Any] = {
    "ReduceMean": torch.mean,
    "ReduceSum": _sum,
    "ReduceProd": _product,
    "ReduceMax": partial(_extreme, largest=True),
    "ReduceMin": partial(_extreme, largest=False),
    "ReduceL1": lambda x, axes, keepdim: x.abs().sum(axes, keepdim),
    "ReduceL2": lambda x, axes, keepdim: x.square().sum(axes, keepdim).sqrt(),
    "ReduceSumSquare": lambda x, axes, keepdim: x.square().sum(axes, keepdim),
    "ReduceLogSum": lambda x, axes, keepdim: x.sum(axes, keepdim).log(),
    "ReduceLogSumExp": torch.logsumexp,
}


@operator(*_REDUCTIONS, host=(1,))
def reduce_(node: Node) -> Compute:
    """Axes are an attribute or, in later operator sets, an input; without any, all are reduced."""
    function, keep = _REDUCTIONS[node.op], bool(node.attributes.get("keepdims", 1))
    fixed, nothing = node.attributes.get("axes"), bool(node.attributes.get("noop_with_empty_axes", 0))

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = ints(axes) if axes is not None else fixed
        if not over and nothing:
            return x
        reduced: Tensor = function(x, over or list(range(x.dim())), keep)
        return reduced

    return run


@operator("Softmax", "LogSoftmax")
def softmax(node: Node) -> Compute:
    """Along one axis, the last by default; before opset 13 over all axes from one on, the second by default."""
    function = torch.softmax if node.op == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        axis = node.attributes.get("axis", -1)
        return lambda x: function(x, axis)
    first = node.attributes.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        return function(x.flatten(first % max(1, x.dim())), -1).reshape(x.shape)

    return run
