"""Resize: by torch's own functions where they compute the same, else by ONNX's formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import ints, operator
from deploy_robust.engines.literal.ops.interpolation import Kernel, interpolate

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
_TORCHS = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_COORDINATES = (*_TORCHS, "half_pixel_symmetric", "tf_crop_and_resize")
_POLICIES: dict[str, Callable[..., float]] = {"stretch": max, "not_larger": min, "not_smaller": max}
_TORCH_MODES = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}
_TORCH_CUBIC = -0.75


@operator("Resize", host=(1, 2, 3))
def resize(node: Node) -> Compute:
    """By scales or to sizes, over any axes."""
    get = node.attributes.get
    mode, coordinates, axes = get("mode", "nearest"), get("coordinate_transformation_mode", "half_pixel"), get("axes")
    rounding, policy = get("nearest_mode", "round_prefer_floor"), get("keep_aspect_ratio_policy", "stretch")
    beyond = get("extrapolation_value", 0.0)
    kernel = Kernel(
        mode, get("cubic_coeff_a", _TORCH_CUBIC), bool(get("antialias", 0)), bool(get("exclude_outside", 0))
    )
    if coordinates not in _COORDINATES:
        raise node.refused(f"coordinates {coordinates}")
    if mode not in ("nearest", "linear", "cubic") or rounding not in _NEAREST or policy not in _POLICIES:
        raise node.refused(f"mode {mode}, nearest_mode {rounding}, keep_aspect_ratio_policy {policy}")
    if mode == "nearest" and kernel.antialias:
        raise node.refused("antialias with nearest")
    simple = coordinates in _TORCHS and kernel == Kernel(mode)

    def run(x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        along = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
        factors, target = [1.0] * x.dim(), list(x.shape)
        if scales is not None and scales.numel():
            for axis, factor in zip(along, scales.tolist(), strict=True):
                factors[axis], target[axis] = factor, int(x.shape[axis] * factor)
        elif sizes is not None:
            wanted = ints(sizes)
            if policy != "stretch":
                one = _POLICIES[policy](side / x.shape[axis] for axis, side in zip(along, wanted, strict=True))
                wanted = [int(one * x.shape[axis] + 0.5) for axis in along]
            for axis, side in zip(along, wanted, strict=True):
                # One factor for all axes keeps the ratio; it need not be that of the sizes after rounding.
                factors[axis], target[axis] = side / x.shape[axis] if policy == "stretch" else one, side
        if simple and mode == "nearest":
            return _nearest(x, factors, target, coordinates, rounding)
        if simple and _torchs_own(mode, x, target, coordinates):
            return _smooth(x, factors, target, mode, coordinates)
        crop = {}
        if coordinates == "tf_crop_and_resize" and roi is not None:
            ends = roi.tolist()
            crop = {axis: (ends[i], ends[i + len(along)]) for i, axis in enumerate(along)}
        return _any(x, factors, target, coordinates, rounding, kernel, crop, beyond)

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
    if how == "half_pixel_symmetric":  # the centre stays the centre where the size was cut to a whole number
        return length / 2 * (1 - side / (factor * length)) + (out + 0.5) / factor - 0.5
    return (out + 0.5) / factor - 0.5


def _torchs_own(mode: str, x: Tensor, target: list[int], coordinates: str) -> bool:
    """Whether torch's own function computes the same."""
    if (mode, x.dim()) not in _TORCH_MODES or tuple(target[:2]) != tuple(x.shape[:2]) or coordinates == "asymmetric":
        return False
    return not (coordinates == "pytorch_half_pixel" and 1 in target[2:])


def _smooth(x: Tensor, factors: list[float], target: list[int], mode: str, coordinates: str) -> Tensor:
    how = _TORCH_MODES[mode, x.dim()]
    if coordinates == "align_corners":
        return F.interpolate(x, size=target[2:], mode=how, align_corners=True)
    if all(int(side * factor) == to for side, factor, to in zip(x.shape[2:], factors[2:], target[2:], strict=True)):
        return F.interpolate(x, scale_factor=factors[2:], mode=how, align_corners=False, recompute_scale_factor=False)
    return F.interpolate(x, size=target[2:], mode=how, align_corners=False)


def _any(
    x: Tensor,
    factors: list[float],
    target: list[int],
    coordinates: str,
    rounding: str,
    kernel: Kernel,
    crop: dict[int, tuple[float, float]],
    beyond: float,
) -> Tensor:
    """Axis after axis, by ONNX's formulas; with a crop, what lies outside the image has the value `beyond`."""
    outside = []
    for axis, (factor, side) in enumerate(zip(factors, target, strict=True)):
        length = x.shape[axis]
        if axis in crop:
            at = _cropped(side, length, *crop[axis])
            outside.append((axis, (at < 0) | (at > length - 1)))
        elif factor == 1.0 and side == length:
            continue
        else:
            at = _coordinates(coordinates, side, length, factor)
        if kernel.mode == "nearest":
            x = x.index_select(axis, _NEAREST[rounding](at).long().clamp(0, length - 1).to(x.device))
        else:
            x = interpolate(x, axis, at, factor, kernel)
    for axis, there in outside:
        shape = [1] * x.dim()
        shape[axis] = -1
        x = torch.where(there.to(x.device).reshape(shape), torch.tensor(beyond, dtype=x.dtype, device=x.device), x)
    return x


def _cropped(side: int, length: int, start: float, end: float) -> Tensor:
    """Positions of tf_crop_and_resize: `start` and `end` are shares of the axis, and may lie outside it."""
    out = torch.arange(side, dtype=torch.float64)
    step = out * (end - start) * (length - 1) / (side - 1) if side > 1 else out + (end - start) * (length - 1) / 2
    return step + start * (length - 1)
