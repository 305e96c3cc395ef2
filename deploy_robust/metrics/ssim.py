"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F

from deploy_robust.errors import UsageError
from deploy_robust.metrics.pixels import PEAK, check_same_shape, to_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.metrics.pixels import Rounding

Border = Literal["zero", "valid"]
"""Zero padding and the mean over the whole image, or the mean over windows that lie inside the image."""

_RADIUS = 5
_SIGMA = 1.5
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
_GAUSS = [math.exp(-(d**2) / (2 * _SIGMA**2)) for d in range(_RADIUS + 1)]
_WEIGHTS = [g / (2 * sum(_GAUSS) - _GAUSS[0]) for g in _GAUSS]
"""The 11-tap window by distance from its centre; it sums to 1."""
_STRIP = 64
"""Rows that are worked on together: a strip of them fits the processor's cache, a whole image does not."""


def ssim(
    a: Tensor,
    b: Tensor,
    *,
    border: Border = "zero",
    rounding: Rounding = "round",
    clamp: bool = True,
    luma: bool = False,
) -> Tensor:
    """Mean of ``(2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2))`` over pixels and channels.

    Means m and population moments s are taken under an 11x11 gaussian window, sigma 1.5; C1 = (0.01 * 255)^2 and
    C2 = (0.03 * 255)^2. The defaults are the protocol of the paper (arXiv 2203.16931), whose figures they reproduce.

    Args:
        a: (N, 3, H, W) RGB in [0, 1].
        b: The other batch, of the same shape; the order does not matter.
        border: ``zero`` pads with black and averages over the whole image (the paper, pytorch-ssim); ``valid`` uses
            full windows only (the original, and scikit-image with gaussian weights).
        rounding: ``round`` to 8 bits, ``truncate`` or ``none``.
        clamp: Whether values outside [0, 1] are cut off first.
        luma: Compare the BT.601 studio-range Y of MATLAB's rgb2ycbcr instead of RGB.

    Returns:
        (N,) float64, at most 1; 1 where the images are identical, NaN where one holds NaN.

    Raises:
        UsageError: The shapes differ, the border is unknown, or an image is smaller than the window.
    """
    check_same_shape(a, b)
    if border not in get_args(Border):
        raise UsageError(f"border must be one of {', '.join(get_args(Border))} (got {border!r})")
    if min(a.shape[-2:]) <= 2 * _RADIUS:
        raise UsageError(f"SSIM needs at least 11 pixels a side (got {a.shape[-2]}x{a.shape[-1]}): use a larger image")
    scores = []
    for row in range(a.shape[0]):
        left = to_pixels(a[row : row + 1], rounding=rounding, clamp=clamp, luma=luma)
        right = to_pixels(b[row : row + 1], rounding=rounding, clamp=clamp, luma=luma)
        scores.append(_ssim_of_pixels(left, right, border))
    return torch.cat(scores)


def _ssim_of_pixels(a: Tensor, b: Tensor, border: Border) -> Tensor:
    """(1, C, H, W) float64 pixel values to (1,)."""
    if border == "zero":
        a, b = F.pad(a, (_RADIUS,) * 4), F.pad(b, (_RADIUS,) * 4)
    total, count = a.new_zeros(1), 0
    for top in range(0, a.shape[-2] - 2 * _RADIUS, _STRIP):
        rows = slice(top, top + _STRIP + 2 * _RADIUS)
        score = _ssim_of_windows(a[..., rows, :], b[..., rows, :])
        total, count = total + score.sum((1, 2, 3)), count + score[0].numel()
    return total / count


def _ssim_of_windows(a: Tensor, b: Tensor) -> Tensor:
    """The score of every full window, (N, C, H - 10, W - 10)."""
    mean_a, mean_b = _blur(a), _blur(b)
    means, product = mean_a.square() + mean_b.square(), mean_a * mean_b
    # Only the sum of the variances enters, so that four blurred maps suffice. Subtracting squares of this size from
    # each other costs seven digits: this is why the arithmetic is float64.
    variances = _blur(a.square() + b.square()) - means
    covariance = _blur(a * b) - product
    return (2 * product + _C1) * (2 * covariance + _C2) / ((means + _C1) * (variances + _C2))


def _blur(image: Tensor) -> Tensor:
    """The gaussian window as two passes of shifted sums: in float64 on a CPU twice as fast as a convolution."""
    return _blur_along(_blur_along(image, -1), -2)


def _blur_along(image: Tensor, axis: int) -> Tensor:
    size = image.shape[axis] - 2 * _RADIUS
    total = image.narrow(axis, _RADIUS, size) * _WEIGHTS[0]
    for distance in range(1, _RADIUS + 1):
        pair = image.narrow(axis, _RADIUS - distance, size) + image.narrow(axis, _RADIUS + distance, size)
        total.add_(pair, alpha=_WEIGHTS[distance])
    return total
