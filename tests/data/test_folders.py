"""Pairs from folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from deploy_robust.data.folders import LAYOUTS, FolderSource
from deploy_robust.data.pairs import PairSource, iterate
from deploy_robust.errors import ImageError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def save(path: Path, seed: int = 0, size: tuple[int, int] = (36, 44)) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.mark.parametrize(("rainy", "clean"), LAYOUTS)
def test_common_layouts(tmp_path: Path, rainy: str, clean: str) -> None:
    first = save(tmp_path / rainy / "a.png", 1)
    second = save(tmp_path / clean / "a.png", 2)
    source = FolderSource.open(tmp_path)
    assert isinstance(source, PairSource)
    assert source.paired
    assert source.name == tmp_path.name
    assert source.ids() == ["a"]
    pair = source[0]
    assert np.array_equal(pair.rainy, first)
    assert np.array_equal(pair.clean, second)


def test_two_folders_with_subfolders_and_other_suffixes_in_the_order_of_names(tmp_path: Path) -> None:
    for seed, name in enumerate(("b", "a", "night/c")):
        save(tmp_path / "wet" / f"{name}.png", seed)
        save(tmp_path / "dry" / f"{name}.bmp", seed + 10)
    (tmp_path / "wet" / "notes.txt").write_text("no image")
    (tmp_path / "wet" / ".hidden.png").write_text("no image either")
    source = FolderSource(tmp_path / "wet", tmp_path / "dry")
    assert source.ids() == ["a", "b", "night/c"]
    assert [pair.id for pair in iterate(source)] == source.ids()
    assert source.name == "wet"


def test_unpaired(tmp_path: Path) -> None:
    save(tmp_path / "street.png")
    source = FolderSource.open(tmp_path, unpaired=True)
    assert not source.paired
    assert source[0].clean is None
    save(tmp_path / "both" / "rain" / "x.png")
    save(tmp_path / "both" / "norain" / "x.png")
    assert FolderSource.open(tmp_path / "both", unpaired=True).ids() == ["x"]


def test_identity_follows_bytes_and_names_but_not_the_place(tmp_path: Path) -> None:
    def made(folder: str, seed: int = 1, name: str = "a.png") -> FolderSource:
        save(tmp_path / folder / "rain" / name, seed)
        save(tmp_path / folder / "norain" / name, 2)
        return FolderSource.open(tmp_path / folder)

    base = dict(made("one").identity)
    assert dict(made("two").identity) == base
    assert dict(made("three", seed=3).identity) != base
    assert dict(made("four", name="b.png").identity) != base
    assert dict(FolderSource(tmp_path / "one" / "rain", None).identity) != base


def test_dangerous_names_become_safe_ids(tmp_path: Path) -> None:
    save(tmp_path / "\x1b[2J<script>.png")
    source = FolderSource.open(tmp_path, unpaired=True)
    assert source.ids() == ["\\x1b[2J<script>"]
    assert source[0].id == source.ids()[0]
    (tmp_path / "\x1b[2J<script>.png").write_text("damaged")
    with pytest.raises(ImageError) as caught:
        source[0]
    assert "\x1b" not in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        FolderSource.open(tmp_path / "nowhere")
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: not a folder"):
        FolderSource.open(tmp_path / "a.png", unpaired=True)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no image: expected .*\.png"):
        FolderSource.open(tmp_path, unpaired=True)


def test_unknown_layout(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"no ground truth found: expected subfolders rain/ and norain/.*--unpaired"):
        FolderSource.open(tmp_path)


@pytest.mark.parametrize("lonely", ["rain", "norain"])
def test_an_image_without_partner_is_named(tmp_path: Path, lonely: str) -> None:
    for folder in ("rain", "norain"):
        save(tmp_path / folder / "a.png")
    save(tmp_path / lonely / "alone.png")
    with pytest.raises(ImageError, match=rf"{lonely}/alone\.png: has no partner"):
        FolderSource.open(tmp_path)


def test_two_files_that_differ_in_their_suffix_only(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "a.bmp")
    with pytest.raises(InputError, match=r"a\.bmp and a\.png differ only in their suffix"):
        FolderSource.open(tmp_path, unpaired=True)


def test_different_sizes_in_a_pair(tmp_path: Path) -> None:
    save(tmp_path / "rain" / "a.png", size=(36, 44))
    save(tmp_path / "norain" / "a.png", size=(44, 36))
    with pytest.raises(ImageError, match=r"a\.png: is 36x44 .*44x36: both of a pair need the same size"):
        FolderSource.open(tmp_path)


def test_an_unusable_image_is_found_before_the_first_pair_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    Image.new("L", (40, 40)).save(tmp_path / "z.png")
    with pytest.raises(ImageError, match=r"z\.png: is grey: convert it"):
        FolderSource.open(tmp_path, unpaired=True)


def test_real_pairs(data_root: Path) -> None:
    source = FolderSource.open(data_root / "rain100h")
    assert source.name == "rain100h"
    assert len(source) >= 20
    pair = source[source.ids().index("norain-5")]
    with Image.open(data_root / "rain100h" / "rain" / "norain-5.png") as image:
        assert np.array_equal(pair.rainy, np.asarray(image.convert("RGB")))
    assert pair.size == pair.clean.shape[:2]  # type: ignore[union-attr]
