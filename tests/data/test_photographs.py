"""The photographs inside scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio

from deploy_robust.data import photographs
from deploy_robust.data.pairs import PairSource, iterate
from deploy_robust.data.photographs import PHOTOGRAPHS, PhotoSource
from deploy_robust.errors import EnvironmentProblem, UsageError


def test_splits_share_no_scene_and_no_file() -> None:
    parts = {split: [p for p in PHOTOGRAPHS if p.split == split] for split in ("train", "test")}
    assert not {p.scene for p in parts["train"]} & {p.scene for p in parts["test"]}
    assert not {p.sha256 for p in parts["train"]} & {p.sha256 for p in parts["test"]}
    stereo = [p for p in PHOTOGRAPHS if p.file.startswith("motorcycle")]
    assert len(stereo) == 2
    assert len({(p.scene, p.split) for p in stereo}) == 1


def test_crops_are_the_pixels_that_scikit_image_reads() -> None:
    cat = skimage.data.chelsea()
    pair = PhotoSource(2, split="test", size=(300, 451 - 50))[1]
    assert pair.id == "photo-test-000001-chelsea"
    assert pair.scene == "photo-chelsea"
    assert any(np.array_equal(pair.clean, cat[:, left : left + 401]) for left in range(51))


def test_deterministic_whatever_the_count_and_the_order() -> None:
    few, many = PhotoSource(4, size=(48, 64)), PhotoSource(50, size=(48, 64))
    last = many[3]
    assert isinstance(few, PairSource)
    assert [pair.id for pair in iterate(few)] == few.ids() == many.ids()[:4]
    for index in range(4):
        assert np.array_equal(few[index].rainy, many[index].rainy)
    assert np.array_equal(few[3].rainy, last.rainy)
    assert not np.array_equal(few[0].rainy, PhotoSource(4, size=(48, 64), seed=1)[0].rainy)
    assert dict(few.identity) != dict(many.identity)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_rain_lies_between_17_and_20_decibels(split: photographs.PhotoSplit) -> None:
    psnr = [peak_signal_noise_ratio(pair.clean, pair.rainy) for pair in iterate(PhotoSource(48, split=split))]
    assert 17.0 <= np.mean(psnr) <= 20.0


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": (16, 64)}, {"size": (301, 301)}, {"split": "validation"}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="photos"):
        PhotoSource(**{"count": 1, **wrong})  # type: ignore[arg-type]


def test_another_file_under_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = photographs.Photograph("coffee.png", "coffee", "train", "0" * 64)
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", (swapped,))
    with pytest.raises(EnvironmentProblem, match=r"coffee\.png.*reinstall"):
        PhotoSource(1, split="train")
