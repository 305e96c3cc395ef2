"""Operators that pick values by position, or put them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.engines.literal.operators import ints, operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


@operator("Gather", moves=True)
def gather(node: Node) -> Compute:
    """Whole slices along one axis."""
    axis = node.attributes.get("axis", 0)

    def run(x: Tensor, index: Tensor) -> Tensor:
        at = axis % x.dim()
        flat = index.reshape(-1).long()
        picked = x.index_select(at, torch.where(flat < 0, flat + x.shape[at], flat))
        return picked.reshape((*x.shape[:at], *index.shape, *x.shape[at + 1 :]))

    return run


@operator("GatherElements", moves=True)
def gather_elements(node: Node) -> Compute:
    """One value for each index."""
    axis = node.attributes.get("axis", 0)
    return lambda x, index: x.gather(axis, torch.where(index < 0, index + x.shape[axis], index))


@operator("GatherND", moves=True)
def gather_nd(node: Node) -> Compute:
    """Slices by several leading positions."""
    if node.attributes.get("batch_dims", 0):
        raise node.refused("batch_dims above 0")
    return lambda x, index: x[tuple(index.unbind(-1))]


@operator("ScatterND", moves=True)
def scatter_nd(node: Node) -> Compute:
    """A copy with slices replaced."""
    if node.attributes.get("reduction", "none") != "none":
        raise node.refused("a reduction")
    return lambda x, index, updates: x.index_put(tuple(index.unbind(-1)), updates)


@operator("ScatterElements", moves=True)
def scatter_elements(node: Node) -> Compute:
    """A copy with single values replaced."""
    if node.attributes.get("reduction", "none") != "none":
        raise node.refused("a reduction")
    axis = node.attributes.get("axis", 0)
    return lambda x, index, updates: x.scatter(axis, torch.where(index < 0, index + x.shape[axis], index), updates)


@operator("Slice", moves=True, host=(1, 2, 3, 4))
def slice_(node: Node) -> Compute:  # noqa: ARG001
    """Python's slices, with negative steps."""

    def run(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        first, last = ints(starts), ints(ends)
        along = range(len(first)) if axes is None else ints(axes)
        by = [1] * len(first) if steps is None else ints(steps)
        for axis, start, end, step in zip(along, first, last, by, strict=True):
            length = x.shape[axis]
            if step == 1:
                low, high, _ = slice(start, end).indices(length)
                x = x.narrow(axis, low, max(0, high - low))
            else:
                # An end below -length means: down to the first value, which Python says as None.
                stop = None if step < 0 and end < -length else end
                positions = list(range(length))[start:stop:step]
                x = x.index_select(axis, torch.tensor(positions, dtype=torch.int64, device=x.device))
        return x

    return run


@operator("Trilu", moves=True, host=(1,))
def triangle(node: Node) -> Compute:
    """Upper or lower triangle, zero elsewhere."""
    cut = torch.triu if node.attributes.get("upper", 1) else torch.tril
    return lambda x, diagonal=None: cut(x, 0 if diagonal is None else int(diagonal.item()))


@operator("ArgMax", "ArgMin", moves=True)
def arg_extreme(node: Node) -> Compute:
    """Position of the largest or smallest value, the first of equals."""
    if node.attributes.get("select_last_index", 0):
        raise node.refused("select_last_index")
    axis, keep = node.attributes.get("axis", 0), bool(node.attributes.get("keepdims", 1))
    find = torch.argmax if node.op == "ArgMax" else torch.argmin
    return lambda x: find(x, axis, keepdim=keep)


@operator("TopK", moves=True, host=(1,))
def top_k(node: Node) -> Compute:
    """Values and positions; of equal values the first come first, which torch's own function does not promise."""
    axis, largest = node.attributes.get("axis", -1), bool(node.attributes.get("largest", 1))
    node.attributes.get("sorted", 1)  # in order is right for both

    def run(x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        count, length = int(k.item()), x.shape[axis]
        values, positions = torch.topk(x, min(count + 1, length), axis, largest)
        with torch.no_grad():
            tied = torch.eq(
                values.narrow(axis, 1, values.shape[axis] - 1), values.narrow(axis, 0, values.shape[axis] - 1)
            )
        if bool(tied.any()):
            values, positions = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), positions.narrow(axis, 0, count)

    return run


@operator("CumSum", host=(1,))
def cumulative_sum(node: Node) -> Compute:
    """Sums up to each position."""
    if node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        raise node.refused("an exclusive or reversed sum")
    return lambda x, axis: x.cumsum(int(axis.item()), dtype=x.dtype)
