"""Small copies of a run's images that travel inside the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SIDE = 256
"""Pixels; larger images are scaled down to it. The exact bytes stay in the store."""

AMPLIFICATION = 4
"""Factor on differences between images, which are too dark to see as they are."""

_QUALITY = 86


def decode(png: bytes) -> NDArray[np.uint8]:
    """A PNG file's bytes to (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.uint8)


def amplified_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``min(255, AMPLIFICATION * |a - b|)``, (H, W, 3) uint8."""
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16)) * AMPLIFICATION
    limited: NDArray[np.uint8] = np.minimum(apart, 255).astype(np.uint8)
    return limited


def data_uri(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 as a ``data:`` address that a page can hold."""
    picture = Image.fromarray(image)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
