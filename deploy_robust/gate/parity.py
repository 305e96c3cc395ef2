"""Parity: how far one network's answers are from another's on the same clean images.

Float32 outputs, unrounded and unclamped, the whole image, peak 1: nothing that would hide a difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Difference(NamedTuple):
    """Two batches compared, image by image.

    Attributes:
        psnr_db: (N,) float64, peak 1; inf where the images are identical.
        max_abs: (N,) float64, largest absolute difference.
    """

    psnr_db: Tensor
    max_abs: Tensor


def difference(a: Tensor, b: Tensor) -> Difference:
    """Compares two outputs (N, 3, H, W) in [0, 1] units.

    Raises:
        UsageError: The shapes differ.
    """
    if a.shape != b.shape:
        raise UsageError(f"parity compares outputs of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    apart = (a.to(torch.float64) - b.to(torch.float64)).abs()
    return Difference(-10 * apart.square().mean((1, 2, 3)).log10(), apart.amax((1, 2, 3)))
