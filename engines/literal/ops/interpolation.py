"""Linear and cubic interpolation along single axes, by ONNX's own formulas: what torch's own functions do not cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Kernel:
    """How neighbours are weighed.

    Attributes:
        mode: ``linear`` or ``cubic``.
        a: The cubic's coefficient; ONNX's ``cubic_coeff_a``.
        antialias: Whether the kernel grows with the step when an image gets smaller.
        exclude_outside: Whether pixels outside the image weigh nothing; else they are those at the edge.
    """

    mode: str
    a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def weigh(self, distance: Tensor) -> Tensor:
        """Weights of neighbours at a distance in pixels, float64 of any shape."""
        d = distance.abs()
        if self.mode == "linear":
            return (1 - d).clamp(min=0)
        a = self.a
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))


def interpolate(x: Tensor, axis: int, at: Tensor, factor: float, kernel: Kernel) -> Tensor:
    """Values at positions between the pixels of one axis.

    Args:
        x: Floating point, any shape.
        axis: Along which.
        at: Positions in pixels, (side,) float64 on the CPU; may lie outside.
        factor: Output pixels for each input pixel; matters to antialiasing.
        kernel: How neighbours are weighed.

    Returns:
        `x` with the size of `axis` replaced by that of `at`.
    """
    length, reach = x.shape[axis], 1 if kernel.mode == "linear" else 2
    scale = min(factor, 1.0) if kernel.antialias else 1.0
    first = int(torch.floor(torch.tensor(-reach / scale, dtype=torch.float64))) + 1
    near = at.floor()[:, None] + torch.arange(first, 2 - first, dtype=torch.float64)
    weights = kernel.weigh((near - at[:, None]) * scale)
    if kernel.antialias:
        weights = weights / weights.sum(1, keepdim=True)
    if kernel.exclude_outside:
        weights = torch.where((near >= 0) & (near < length), weights, 0.0)
        weights = weights / weights.sum(1, keepdim=True)
    near = near.long().clamp(0, length - 1)
    shape = [1] * x.dim()
    shape[axis] = -1
    total: Tensor | None = None
    for places, weight in zip(near.unbind(1), weights.unbind(1), strict=True):
        if not weight.any():
            continue
        part = x.index_select(axis, places.to(x.device)) * weight.to(x).reshape(shape)
        total = part if total is None else total + part
    return x.index_select(axis, near[:, 0].to(x.device)) * 0 if total is None else total
