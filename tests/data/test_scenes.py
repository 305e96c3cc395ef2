"""The embedded scene generator."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from deploy_robust.data.pairs import Pair, PairSource, iterate
from deploy_robust.data.rain import RainSettings
from deploy_robust.data.scenes import CLASS_NAMES, SceneSource
from deploy_robust.errors import UsageError


def assert_same(first: Pair, second: Pair) -> None:
    assert first.id == second.id
    for field in ("rainy", "clean"):
        assert np.array_equal(getattr(first, field), getattr(second, field))
    assert np.array_equal(first.labels.classes, second.labels.classes)
    assert first.labels.boxes == second.labels.boxes


def test_it_is_a_pair_source() -> None:
    source = SceneSource(3, size=(48, 64))
    assert isinstance(source, PairSource)
    assert source.paired
    assert [pair.id for pair in iterate(source)] == source.ids()
    assert source.ids()[2] == "scene-test-000002"
    assert all(pair.scene == pair.id for pair in iterate(source))


def test_a_scene_depends_neither_on_the_order_nor_on_the_count() -> None:
    few, many = SceneSource(3, size=(48, 64)), SceneSource(100, size=(48, 64))
    later = many[2]
    for index in range(3):
        assert_same(few[index], many[index])
    assert_same(few[2], later)


def test_seeds_and_splits_and_indices_draw_different_scenes() -> None:
    sources = [SceneSource(4, size=(32, 32), split=split) for split in ("train", "validation", "calibration", "test")]
    sources.append(SceneSource(4, size=(32, 32), seed=1))
    images = {source[index].clean.tobytes() for source in sources for index in range(4)}  # type: ignore[union-attr]
    assert len(images) == 20
    ids = [source.ids() for source in sources[:4]]
    assert len({name for names in ids for name in names}) == 16


def test_identity_names_everything_that_the_bytes_depend_on() -> None:
    base = dict(SceneSource(4, seed=0, size=(32, 48)).identity)
    assert base == dict(SceneSource(4, seed=0, size=(32, 48)).identity)
    for other in (
        SceneSource(5, size=(32, 48)),
        SceneSource(4, seed=1, size=(32, 48)),
        SceneSource(4, size=(48, 32)),
        SceneSource(4, size=(32, 48), split="train"),
        SceneSource(4, size=(32, 48), rain=RainSettings(layers=2)),
    ):
        assert dict(other.identity) != base


@pytest.mark.parametrize("size", [(32, 32), (33, 130), (128, 40), (64, 128)])
def test_labels_have_the_exact_shape_and_boxes_hold_their_class(size: tuple[int, int]) -> None:
    seen = set()
    for pair in iterate(SceneSource(10, size=size)):
        labels = pair.labels
        assert pair.rainy.shape == pair.clean.shape == (*size, 3)  # type: ignore[union-attr]
        assert labels.classes is not None
        assert labels.classes.shape == size
        assert labels.classes.dtype == np.uint8
        assert labels.class_names == CLASS_NAMES
        assert set(np.unique(labels.classes)) <= {*range(len(CLASS_NAMES)), 255}
        for label in ("car", "person"):
            mask = labels.classes == CLASS_NAMES.index(label)
            covered = np.zeros(size, bool)
            for box in labels.boxes:
                assert box.label in ("car", "person")
                assert 0 <= box.x0 < box.x1 <= size[1]
                assert 0 <= box.y0 < box.y1 <= size[0]
                if box.label == label:
                    covered[box.y0 : box.y1, box.x0 : box.x1] = True
                    inside = mask[box.y0 : box.y1, box.x0 : box.x1]
                    # Tight: the object touches each edge of its box.
                    assert inside[0].any()
                    assert inside[-1].any()
                    assert inside[:, 0].any()
                    assert inside[:, -1].any()
            assert not (mask & ~covered).any()
        seen |= set(np.unique(labels.classes))
    assert {CLASS_NAMES.index(name) for name in ("road", "sidewalk", "building", "sky", "car")} <= seen


@pytest.fixture(scope="module")
def scenes() -> list[Pair]:
    return list(iterate(SceneSource(48)))


def test_all_classes_occur_and_the_road_lies_below_the_sky(scenes: list[Pair]) -> None:
    counts = np.zeros(256, int)
    for pair in scenes:
        classes = pair.labels.classes
        assert classes is not None
        counts += np.bincount(classes.ravel(), minlength=256)
        rows = {name: np.nonzero(classes == CLASS_NAMES.index(name))[0] for name in ("road", "sky")}
        assert len(rows["road"]) > 0.1 * classes.size
        assert rows["sky"].max(initial=0) < rows["road"].max()
    assert (counts[: len(CLASS_NAMES)] > 0).all()
    assert counts[255] < 0.01 * counts.sum()


def test_the_rain_lies_between_17_and_20_decibels(scenes: list[Pair]) -> None:
    psnr = [peak_signal_noise_ratio(pair.clean, pair.rainy) for pair in scenes]
    assert 17.0 <= np.mean(psnr) <= 20.0
    assert min(psnr) > 12.0
    assert max(psnr) < 27.0


def test_images_have_natural_statistics(scenes: list[Pair]) -> None:
    """Field (1987): the amplitude spectrum of natural images falls near 1/f."""
    power = np.zeros((128, 65))
    for pair in scenes[:24]:
        image = pair.clean.astype(float).mean(axis=2)  # type: ignore[union-attr]
        power += np.abs(np.fft.rfft2((image - image.mean()) * np.outer(np.hanning(128), np.hanning(128)))) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    band = (frequency > 0.03) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[band]), 0.5 * np.log(power[band]), 1)[0]
    assert -1.8 < slope < -0.8


@pytest.mark.parametrize("wrong", [{"count": 0}, {"size": (31, 64)}, {"split": "exam"}])
def test_wrong_arguments_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="scenes"):
        SceneSource(**{"count": 1, **wrong})  # type: ignore[arg-type]


def test_index_past_the_end() -> None:
    with pytest.raises(IndexError):
        SceneSource(2)[2]
