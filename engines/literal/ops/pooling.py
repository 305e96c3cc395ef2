"""Pools over windows and over whole images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator, plain
from deploy_robust.engines.literal.ops.windows import Padding, extents_of, padding_of, torch_order

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _over_image(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


plain({"GlobalAveragePool": lambda x: x.mean(_over_image(x), keepdim=True)})
plain({"GlobalMaxPool": lambda x: x.amax(_over_image(x), keepdim=True)}, moves=True)


@operator("MaxPool", moves=True, ignores=("storage_order",))  # of positions, which are refused
def max_pool(node: Node) -> Compute:
    """Values only, without their positions; padding never wins."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refused("positions as second output")
    window = _window(node)
    pool = _MAX[len(window.kernel)]
    if (inside := window.torchs_own) is not None:
        return lambda x: pool(x, window.kernel, window.strides, inside, window.dilations, window.ceil)

    def run(x: Tensor) -> Tensor:
        before, _, further = window.layout(x)
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        padded = F.pad(x, torch_order(before, further), value=lowest)
        found: Tensor = pool(padded, window.kernel, window.strides, 0, window.dilations)
        return found

    return run


@operator("AveragePool")
def average_pool(node: Node) -> Compute:
    """Padding counts as zeros, or not at all; what a last window reaches over beyond it never counts."""
    window, counts = _window(node), bool(node.attributes.get("count_include_pad", 0))
    rank = len(window.kernel)
    pool = _MEAN[rank]
    inside = window.torchs_own
    if inside is not None and set(window.dilations) == {1}:
        return lambda x: pool(x, window.kernel, window.strides, inside, window.ceil, counts)

    def sums(x: Tensor) -> Tensor:
        ones = torch.ones(1, 1, *window.kernel, dtype=x.dtype, device=x.device)
        alone = x.reshape(-1, 1, *x.shape[2:])
        found: Tensor = _CONV[rank](alone, ones, None, window.strides, 0, window.dilations)
        return found.reshape(*x.shape[:2], *found.shape[2:])

    def run(x: Tensor) -> Tensor:
        before, after, further = window.layout(x)
        around, beyond = torch_order(before, further), torch_order([0] * rank, _less(further, after))
        ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
        counted = F.pad(F.pad(ones, torch_order(before, after), value=1), beyond) if counts else F.pad(ones, around)
        return sums(F.pad(x, around)) / sums(counted)

    return run


@dataclass(frozen=True, slots=True)
class _Window:
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    padding: Padding
    ceil: bool

    @property
    def torchs_own(self) -> list[int] | None:
        """The padding that torch's pools take, None where they do not take this one."""
        if self.padding.same:
            return None
        before, after = self.padding.around([], self.kernel, self.strides)
        small = all(2 * pad <= side for pad, side in zip(before, self.kernel, strict=True))
        return before if before == after and small else None

    def layout(self, x: Tensor) -> tuple[list[int], list[int], list[int]]:
        """Pixels before each axis, after it, and after it so that whole windows fit exactly; that may be less."""
        sizes, extents = x.shape[2:], extents_of(self.kernel, self.dilations)
        before, after = self.padding.around(sizes, extents, self.strides)
        further = []
        for size, extent, stride, low, high in zip(sizes, extents, self.strides, before, after, strict=True):
            room = size + low + high - extent
            count = (-(-room // stride) if self.ceil else room // stride) + 1
            if self.ceil and (count - 1) * stride >= size + low:  # it would begin in the padding at the end
                count -= 1
            further.append((count - 1) * stride + extent - size - low)
        return before, after, further


def _less(further: list[int], after: list[int]) -> list[int]:
    return [a - b for a, b in zip(further, after, strict=True)]


def _window(node: Node) -> _Window:
    kernel, padding = node.attributes["kernel_shape"], padding_of(node)
    rank = len(kernel)
    if rank not in _MAX:
        raise node.refused(f"{rank} dimensions")
    strides, dilations = (node.attributes.get(key) or [1] * rank for key in ("strides", "dilations"))
    ceil = bool(node.attributes.get("ceil_mode", 0)) and padding.how == "NOTSET"  # else sizes follow from auto_pad
    return _Window(kernel, strides, dilations, padding, ceil)
