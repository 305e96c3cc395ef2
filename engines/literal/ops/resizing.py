"""Resize: nearest by ONNX's own formulas, linear and cubic where torch's coordinates are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import ints, operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda at: torch.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: torch.floor(at + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_TORCH_MODES = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}
_TORCH_CUBIC = -0.75


@operator("Resize", host=(2, 3))
def resize(node: Node) -> Compute:
    """By scales or to sizes; the image axes only, unless nearest."""
    get = node.attributes.get
    mode, coordinates = get("mode", "nearest"), get("coordinate_transformation_mode", "half_pixel")
    rounding, axes = get("nearest_mode", "round_prefer_floor"), get("axes")
    if coordinates not in _COORDINATES:
        raise node.refused(f"coordinates {coordinates}")
    if get("antialias", 0) or get("exclude_outside", 0) or get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refused("antialias, exclude_outside or keep_aspect_ratio_policy")
    if mode != "nearest" and coordinates == "asymmetric":
        raise node.refused(f"{mode} with coordinates asymmetric")
    if mode == "cubic" and get("cubic_coeff_a", -0.75) != _TORCH_CUBIC:
        raise node.refused(f"cubic_coeff_a {get('cubic_coeff_a')}")

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        del roi  # only read with tf_crop_and_resize
        along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
        factors, target = [1.0] * x.dim(), list(x.shape)
        if scales is not None and scales.numel():
            for axis, factor in zip(along, scales.tolist(), strict=True):
                factors[axis], target[axis] = factor, int(x.shape[axis] * factor)
        elif sizes is not None:
            for axis, side in zip(along, ints(sizes), strict=True):
                factors[axis], target[axis] = side / x.shape[axis], side
        if mode == "nearest":
            return _nearest(x, factors, target, coordinates, rounding)
        return _smooth(node, x, factors, target, coordinates)

    return run


def _nearest(x: Tensor, factors: list[float], target: list[int], coordinates: str, rounding: str) -> Tensor:
    whole = x.dim() == 4 and factors[:2] == [1, 1] and all(factor == int(factor) for factor in factors)
    if whole and coordinates == "asymmetric" and rounding == "floor":
        return F.interpolate(x, size=target[2:], mode="nearest")
    for axis, (factor, side) in enumerate(zip(factors, target, strict=True)):
        if factor == 1.0 and side == x.shape[axis]:
            continue
        at = _coordinates(coordinates, side, x.shape[axis], factor)
        picked = _NEAREST[rounding](at).long().clamp(0, x.shape[axis] - 1)
        x = x.index_select(axis, picked.to(x.device))
    return x


def _coordinates(how: str, side: int, length: int, factor: float) -> Tensor:
    """Where each output position lies in the input."""
    out = torch.arange(side, dtype=torch.float64)
    if how == "asymmetric":
        return out / factor
    if how == "align_corners":
        return out * (length - 1) / (side - 1) if side > 1 else out * 0
    if how == "pytorch_half_pixel" and side == 1:
        return out * 0
    return (out + 0.5) / factor - 0.5


def _smooth(node: Node, x: Tensor, factors: list[float], target: list[int], coordinates: str) -> Tensor:
    how = _TORCH_MODES.get((node.attributes["mode"], x.dim()))
    if how is None or tuple(target[:2]) != tuple(x.shape[:2]):
        raise node.refused(f"{node.attributes['mode']} over {x.dim()} dimensions to {target}")
    if coordinates == "pytorch_half_pixel" and 1 in target[2:]:
        raise node.refused("pytorch_half_pixel to a side of 1")
    if coordinates == "align_corners":
        return F.interpolate(x, size=target[2:], mode=how, align_corners=True)
    if all(int(side * factor) == to for side, factor, to in zip(x.shape[2:], factors[2:], target[2:], strict=True)):
        return F.interpolate(x, scale_factor=factors[2:], mode=how, align_corners=False, recompute_scale_factor=False)
    return F.interpolate(x, size=target[2:], mode=how, align_corners=False)
