"""Pools over windows and over whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator, plain
from deploy_robust.engines.literal.ops.convolution import refuse_auto_pad

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _over_image(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


plain({"GlobalAveragePool": lambda x: x.mean(_over_image(x), keepdim=True)})
plain({"GlobalMaxPool": lambda x: x.amax(_over_image(x), keepdim=True)}, moves=True)


@operator("MaxPool", moves=True)
def max_pool(node: Node) -> Compute:
    """Values only, without their positions."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refused("positions as second output")
    kernel, strides, padding = _window(node)
    dilations = node.attributes.get("dilations") or [1] * len(kernel)
    if node.attributes.get("ceil_mode", 0):
        raise node.refused("ceil_mode")
    pool = _MAX[len(kernel)]
    return lambda x: pool(x, kernel, strides, padding, dilations)


@operator("AveragePool")
def average_pool(node: Node) -> Compute:
    """Padding counts as zeros, or not at all."""
    kernel, strides, padding = _window(node)
    if node.attributes.get("ceil_mode", 0):
        raise node.refused("ceil_mode")
    if set(node.attributes.get("dilations") or [1]) != {1}:
        raise node.refused("dilations")
    counts = bool(node.attributes.get("count_include_pad", 0))
    pool = _MEAN[len(kernel)]
    return lambda x: pool(x, kernel, strides, padding, False, counts)


def _window(node: Node) -> tuple[list[int], list[int], list[int]]:
    refuse_auto_pad(node)
    kernel = node.attributes["kernel_shape"]
    if len(kernel) not in _MAX:
        raise node.refused(f"{len(kernel)} dimensions")
    pads = node.attributes.get("pads") or [0] * (2 * len(kernel))
    before, after = pads[: len(kernel)], pads[len(kernel) :]
    if before != after:
        raise node.refused(f"asymmetric padding {pads}")
    if any(2 * pad > side for pad, side in zip(before, kernel, strict=True)):
        raise node.refused("padding above half of the window")
    return kernel, node.attributes.get("strides") or [1] * len(kernel), before
