"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError
from deploy_robust.metrics.pixels import PEAK, check_same_shape, to_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.metrics.pixels import Rounding


def psnr(
    a: Tensor,
    b: Tensor,
    *,
    shave: int = 8,
    rounding: Rounding = "round",
    clamp: bool = True,
    luma: bool = False,
) -> Tensor:
    """``10 log10(255^2 / MSE)`` of each image, one MSE over its three channels.

    The defaults are the protocol of the paper (arXiv 2203.16931), whose figures they reproduce to the printed digit.

    Args:
        a: (N, 3, H, W) RGB in [0, 1].
        b: The other batch, of the same shape; the order does not matter.
        shave: Pixels removed on each side; the whole image is 0.
        rounding: ``round`` to 8 bits, ``truncate`` (official PReNet script) or ``none``.
        clamp: Whether values outside [0, 1] are cut off first.
        luma: Compare the BT.601 studio-range Y of MATLAB's rgb2ycbcr instead of RGB; the peak stays 255.

    Returns:
        (N,) float64 in dB; inf where the images are identical, NaN where one holds NaN.

    Raises:
        UsageError: The shapes differ, or nothing is left after shaving.
    """
    check_same_shape(a, b)
    height, width = a.shape[-2:]
    if not 0 <= 2 * shave < min(height, width):
        raise UsageError(f"shaving {shave} pixels on each side leaves nothing of {height}x{width}: use a larger image")
    window = (..., slice(shave, height - shave), slice(shave, width - shave))
    left = to_pixels(a[window], rounding=rounding, clamp=clamp, luma=luma)
    right = to_pixels(b[window], rounding=rounding, clamp=clamp, luma=luma)
    mse = (left - right).square_().mean((1, 2, 3))
    return 10.0 * (PEAK**2 / mse).log10()
