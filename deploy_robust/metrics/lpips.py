"""LPIPS between two batches (Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.metrics.pixels import PEAK, check_same_shape, to_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def lpips_of(net: str = "alex", trunk: str = "") -> Callable[[Tensor, Tensor], Tensor]:
    """The metric with its network loaded: two batches (N, 3, H, W) in [0, 1] to (N,) float64, 0 for equal images.

    Images are cut to [0, 1] and rounded to 8 bits first, as for PSNR.

    Args:
        net: ``alex``, ``vgg`` or ``squeeze``.
        trunk: File of the trunk's weights; empty looks where `deploy_robust.models.perceptual.find_trunk` does.

    Raises:
        EnvironmentProblem: There is no trunk.
    """
    from deploy_robust.models.perceptual import LPIPS

    distance = LPIPS(net, trunk)

    def lpips(a: Tensor, b: Tensor) -> Tensor:
        check_same_shape(a, b)
        with torch.no_grad():
            left, right = (distance.features((to_pixels(x) / PEAK).to(torch.float32)) for x in (a, b))
            return distance.distance(left, right).to(torch.float64)

    return lpips
