"""Reading images exactly."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from deploy_robust.data.images import image_size, read_image, safe_text
from deploy_robust.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path


def pixels(height: int = 40, width: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def png_16_bit(path: Path) -> None:
    """Colour type 2 with 16 bits, which Pillow reads as 8 bits without a word."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(40 * 6) for _ in range(40))
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "PNG"])
def test_lossless_files_come_back_bit_by_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels()).save(path)
    assert np.array_equal(read_image(path), pixels())
    assert image_size(path) == (40, 50)


def test_jpeg_equals_its_decoder(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels()).save(path)
    assert np.array_equal(read_image(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("mode", "suffix", "message"),
    [
        ("L", "png", "grey"),
        ("LA", "png", "alpha"),
        ("1", "png", "black and white"),
        ("P", "png", "palette"),
        ("RGBA", "png", "alpha"),
        ("CMYK", "jpg", "CMYK"),
        ("I;16", "png", "8 bits"),
        ("F", "tif", "8 bits"),
        ("LAB", "tif", "LAB"),
    ],
)
def test_other_kinds_are_named_and_refused(tmp_path: Path, mode: str, suffix: str, message: str) -> None:
    path = tmp_path / f"odd.{suffix}"
    Image.new(mode, (40, 40)).save(path)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=rf"odd\.{suffix}: .*{message}.*: .*convert|flatten"):
            read(path)


def test_16_bit_rgb_is_refused(tmp_path: Path) -> None:
    png_16_bit(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image:
        assert image.mode == "RGB"  # the trap
    with pytest.raises(ImageError, match=r"deep\.png: has more or fewer than 8 bits"):
        read_image(tmp_path / "deep.png")


def test_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels()).save(tmp_path / "key.png", transparency=(0, 0, 0))
    with pytest.raises(ImageError, match="transparent colour"):
        read_image(tmp_path / "key.png")


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frame = Image.fromarray(pixels())
    frame.save(tmp_path / "stack.tif", save_all=True, append_images=[frame])
    with pytest.raises(ImageError, match="several images"):
        read_image(tmp_path / "stack.tif")


def test_a_rotated_photograph_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(tmp_path / "phone.jpg", exif=exif)
    with pytest.raises(ImageError, match="upright"):
        read_image(tmp_path / "phone.jpg")


def test_too_small_is_refused(tmp_path: Path) -> None:
    Image.fromarray(pixels(31, 64)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match=r"small\.png: is 31x64 .*at least 32"):
        read_image(tmp_path / "small.png")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ImageError, match=r"text\.png: damaged or not an image"):
        read_image(tmp_path / "text.png")
    Image.fromarray(pixels()).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for length in range(0, len(whole) - 12, 37):  # 12: the end mark, without which all pixels are there
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(ImageError, match=r"cut\.png: damaged"):
            read_image(tmp_path / "cut.png")
    Image.fromarray(pixels()).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:800])
    with pytest.raises(ImageError, match=r"cut\.jpg: damaged"):
        read_image(tmp_path / "cut.jpg")


def test_an_enormous_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels()).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    with pytest.raises(ImageError, match="more than 1500 pixels"):
        read_image(tmp_path / "big.png")


def test_names_become_safe_and_stay_different() -> None:
    assert safe_text("street-07 (wet) é 雨") == "street-07 (wet) é 雨"
    assert safe_text("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert safe_text("line\nbreak\u2028\u202eflip\udcff") == "line\\x0abreak\\u2028\\u202eflip\\udcff"
    assert safe_text("\\x1b") == "\\\\x1b" != safe_text("\x1b")
    assert safe_text("<b>") == "<b>"
    assert all(character.isprintable() for character in safe_text("".join(map(chr, range(0x3000)))))
