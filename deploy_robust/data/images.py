"""Reading one image file exactly: 8-bit RGB as it is stored, or an error that says what it is instead.

Nothing is converted. An image of another kind than 8-bit RGB would have to be turned into it by a rule that the camera
of the deployed product does not share, so the user is told and decides. Colour profiles are not applied.
"""

from __future__ import annotations

import struct
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes (in any case) of the files that count as images."""

_ORIENTATION = 0x0112  # Exif tag; 1 is upright

_REMEDY = {
    "1": ("is black and white", "convert it to 8-bit RGB"),
    "L": ("is grey", "convert it to 8-bit RGB"),
    "LA": ("is grey with an alpha channel", "flatten it and convert it to 8-bit RGB"),
    "P": ("has a palette", "convert it to 8-bit RGB"),
    "PA": ("has a palette with an alpha channel", "flatten it and convert it to 8-bit RGB"),
    "RGBA": ("has an alpha channel", "flatten it to 8-bit RGB"),
    "CMYK": ("is CMYK", "convert it to 8-bit RGB"),
}


def read_image(path: Path) -> NDArray[np.uint8]:
    """The pixels of an 8-bit RGB image file.

    Args:
        path: The file.

    Returns:
        (H, W, 3) uint8 RGB, as stored.

    Raises:
        ImageError: The file is missing, damaged, not 8-bit RGB, not upright, has several frames, or is too small.
    """
    with _opened(path) as image:
        _check(image, path)
        return np.asarray(image).copy()


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header, after all checks that need no pixel.

    Raises:
        ImageError: As for `read_image`, except for damage behind the header.
    """
    with _opened(path) as image:
        _check(image, path)
        return image.height, image.width


def safe_text(text: str) -> str:
    r"""Text from a file name, made safe to print on one line of a terminal.

    Whatever does not print (terminal escapes, line breaks, changes of writing direction), undecodable bytes
    and the backslash itself become ``\xNN``, ``\uNNNN``, ``\UNNNNNNNN`` or ``\\``, so that different names stay
    different.
    HTML is left alone: whoever writes HTML escapes all text anyway.
    """
    return "".join(_safe_character(character) for character in text)


def _safe_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    where = safe_text(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except FileNotFoundError:
        raise ImageError(f"{where}: no such file: check the path") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(f"{where}: more than {Image.MAX_IMAGE_PIXELS} pixels: crop it or scale it down") from None
    except PermissionError:
        raise ImageError(f"{where}: may not be read: change its permissions") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        reason = safe_text(str(error)).replace(where, "the file")
        raise ImageError(f"{where}: damaged or not an image ({reason}): replace it") from None


def _check(image: Image.Image, path: Path) -> None:
    where = safe_text(str(path))
    # Pillow reads 16-bit RGB files as 8-bit RGB without a word; only the decoder's raw mode tells.
    raw = "".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.mode.startswith(("I", "F")) or any(depth in raw for depth in (";16", ";15", ";12")):
        raise ImageError(f"{where}: has more or fewer than 8 bits for each colour: convert it to 8-bit RGB")
    if image.mode != "RGB":
        what, remedy = _REMEDY.get(image.mode, (f"is of colour mode {image.mode}", "convert it to 8-bit RGB"))
        raise ImageError(f"{where}: {what}: {remedy}")
    if "transparency" in image.info:
        raise ImageError(f"{where}: has a transparent colour: flatten it to 8-bit RGB")
    if getattr(image, "n_frames", 1) != 1:
        raise ImageError(f"{where}: holds several images: save each one to its own file")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        raise ImageError(f"{where}: is stored rotated or mirrored (Exif orientation): save it upright")
    if min(image.size) < SMALLEST_SIDE:
        raise ImageError(
            f"{where}: is {image.height}x{image.width} (height x width): "
            f"both sides need at least {SMALLEST_SIDE} pixels, use a larger image"
        )
