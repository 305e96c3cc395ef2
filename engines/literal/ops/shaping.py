"""Operators that lay the same values out in another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import ints, operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


@operator("Reshape", moves=True, host=(1,))
def reshape(node: Node) -> Compute:
    """0 keeps a size, unless ``allowzero``; -1 is inferred."""
    literal_zero = node.attributes.get("allowzero", 0)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = ints(shape)
        return x.reshape(sizes if literal_zero else [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)])

    return run


@operator("Flatten", moves=True)
def flatten(node: Node) -> Compute:
    """Two dimensions, cut before ``axis``."""
    axis = node.attributes.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        cut = axis if axis >= 0 else axis + x.dim()
        return x.reshape(x.shape[:cut].numel(), -1)

    return run


@operator("Transpose", moves=True)
def transpose(node: Node) -> Compute:
    """Reverses the dimensions unless ``perm`` is given."""
    order = node.attributes.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.dim()))))


@operator("Squeeze", moves=True, host=(1,))
def squeeze(node: Node) -> Compute:
    """Drops dimensions of 1: those given, or all. Axes are an attribute before opset 13."""
    fixed = node.attributes.get("axes") if node.opset < 13 else None

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        dropped = fixed if axes is None else ints(axes)
        return x.squeeze() if dropped is None else x.squeeze(dropped)

    return run


@operator("Unsqueeze", moves=True, host=(1,))
def unsqueeze(node: Node) -> Compute:
    """Inserts dimensions of 1; axes count in the result, and are an attribute before opset 13."""
    fixed = node.attributes["axes"] if node.opset < 13 else []

    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        added = fixed if axes is None else ints(axes)
        rank = x.dim() + len(added)
        for axis in sorted(n % rank for n in added):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Concat", moves=True)
def concat(node: Node) -> Compute:
    """Joins along one axis."""
    axis = node.attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


@operator("Split", moves=True, host=(1,))
def split(node: Node) -> Compute:
    """Into given sizes, or into as many equal parts as there are outputs, the last one smaller."""
    axis = node.attributes.get("axis", 0)
    count = node.attributes.get("num_outputs", len(node.outputs))
    fixed = node.attributes.get("split") if node.opset < 13 else None

    def run(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        parts = fixed if sizes is None else ints(sizes)
        return torch.split(x, -(-x.shape[axis] // count) if parts is None else parts, axis)

    return run


@operator("Expand", moves=True, host=(1,))
def expand(node: Node) -> Compute:  # noqa: ARG001
    """Broadcasts to a shape, in both directions."""

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = ints(shape)
        sizes = [1] * (x.dim() - len(sizes)) + sizes
        kept = [1] * (len(sizes) - x.dim()) + list(x.shape)
        return x.expand([old if new == 1 else new for old, new in zip(kept, sizes, strict=True)])

    return run


@operator("Tile", moves=True, host=(1,))
def tile(node: Node) -> Compute:  # noqa: ARG001
    """Repeats along each axis."""
    return lambda x, repeats: x.repeat(ints(repeats))


@operator("DepthToSpace", moves=True)
def depth_to_space(node: Node) -> Compute:
    """Pixel shuffle, in either order of the channels."""
    block, mode = node.attributes["blocksize"], node.attributes.get("mode", "DCR")

    def run(x: Tensor) -> Tensor:
        if mode == "CRD":
            return F.pixel_shuffle(x, block)
        n, c, h, w = x.shape
        parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // block**2, h * block, w * block)

    return run


@operator("SpaceToDepth", moves=True)
def space_to_depth(node: Node) -> Compute:
    """The inverse of DepthToSpace in its default order."""
    block = node.attributes["blocksize"]

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * block**2, h // block, w // block)

    return run


@operator("Pad", moves=True, host=(1, 3))
def pad(node: Node) -> Compute:
    """Negative amounts crop."""
    mode = node.attributes.get("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise node.refused(f"mode {mode}")

    def run(x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        around = _around(x.dim(), ints(pads), None if axes is None else ints(axes))
        if mode == "constant":
            return F.pad(x, around, value=0 if value is None else value.item())
        while len(around) > 2 and around[-2:] == [0, 0]:
            around = around[:-2]
        # torch's other modes want one or two leading dimensions that stay as they are.
        padded = F.pad(x.reshape(1, -1, *x.shape[-(len(around) // 2) :]), around, mode=names[mode])
        return padded.reshape(*x.shape[: x.dim() - len(around) // 2], *padded.shape[2:])

    return run


def _around(rank: int, pads: list[int], axes: list[int] | None) -> list[int]:
    """ONNX's (all starts, all ends) as torch's pairs from the last dimension to the first."""
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    starts, ends = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        starts[axis], ends[axis] = pads[index], pads[index + len(axes)]
    return [side for axis in reversed(range(rank)) for side in (starts[axis], ends[axis])]
