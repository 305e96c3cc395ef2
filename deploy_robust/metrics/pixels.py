"""What PSNR and SSIM share: how images in [0, 1] become the pixel values that a protocol compares."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from deploy_robust.errors import UsageError

Rounding = Literal["round", "truncate", "none"]
"""To 8 bits as a camera or `round` does, as a cast to an integer does (official PReNet script), or not at all."""

PEAK = 255.0
"""Largest pixel value."""


def to_pixels(image: Tensor, *, rounding: Rounding = "round", clamp: bool = True, luma: bool = False) -> Tensor:
    """Pixel values in [0, 255] as float64.

    Args:
        image: (N, 3, H, W) RGB in [0, 1].
        rounding: How values become integers; applied to RGB, before the luma is taken.
        clamp: Whether values outside [0, 1] are cut off first, as saving to 8 bits does.
        luma: Take the Y of BT.601 in studio range, 16 to 235 and unrounded, as MATLAB's rgb2ycbcr does.

    Returns:
        (N, 3, H, W), or (N, 1, H, W) for the luma.

    Raises:
        UsageError: The tensor is no RGB batch, or the rounding is unknown.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise UsageError(f"a metric compares RGB batches (N, 3, H, W), got {tuple(image.shape)}")
    if rounding not in get_args(Rounding):
        raise UsageError(f"rounding must be one of {', '.join(get_args(Rounding))} (got {rounding!r})")
    # Integers are made in the image's own type, as saving does: 8-bit values over 255 come back exactly, also from
    # truncation. Unrounded values are scaled in float64, so that differences of the last bit survive.
    pixels = image.detach() if rounding != "none" else image.detach().to(torch.float64)
    pixels = (pixels.clamp(0, 1) if clamp else pixels) * PEAK
    if rounding == "round":
        pixels = pixels.round()
    elif rounding == "truncate":
        pixels = pixels.floor()
    pixels = pixels.to(torch.float64)
    if not luma:
        return pixels
    weights = pixels.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1) / PEAK
    return (pixels * weights).sum(1, keepdim=True) + 16.0


def check_same_shape(a: Tensor, b: Tensor) -> None:
    """Refuses to broadcast one image over many.

    Raises:
        UsageError: The shapes differ.
    """
    if a.shape != b.shape:
        raise UsageError(f"a metric compares images of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
