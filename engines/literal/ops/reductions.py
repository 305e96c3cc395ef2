"""Reductions over axes, and the two softmaxes."""

from __future__ import annotations

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


_REDUCTIONS: dict[str, Any] = {
    "ReduceMean": torch.mean,
    "ReduceSum": _sum,
    "ReduceProd": _product,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
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


@operator("Softmax")
def softmax(node: Node) -> Compute:
    """Along one axis, the last by default."""
    axis = node.attributes.get("axis", -1)
    return lambda x: torch.softmax(x, axis)


@operator("LogSoftmax")
def log_softmax(node: Node) -> Compute:
    """Along one axis, the last by default."""
    axis = node.attributes.get("axis", -1)
    return lambda x: torch.log_softmax(x, axis)
