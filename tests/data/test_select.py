"""Limits and crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy_robust.data.pairs import Box, Labels, Pair, PairSource, iterate
from deploy_robust.data.scenes import SceneSource
from deploy_robust.data.select import Cropped, Limited, crop_pair
from deploy_robust.errors import ImageError, UsageError

if TYPE_CHECKING:
    from deploy_robust.data.select import CropPlace


def numbered(height: int, width: int, boxes: tuple[Box, ...] = ()) -> Pair:
    """A pair whose pixels hold their own row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    rainy = np.stack([rows, columns, rows ^ columns], axis=2)
    return Pair("p", rainy, 255 - rainy, "p", Labels(rows, ("x",), boxes))


@given(st.data())
def test_a_crop_is_the_window_of_everything(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(32, 90), st.integers(32, 90)))
    size = data.draw(st.tuples(st.integers(32, height), st.integers(32, width)))
    top, left = data.draw(st.tuples(st.integers(0, height - size[0]), st.integers(0, width - size[1])))
    x0, y0 = data.draw(st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)))
    x1, y1 = data.draw(st.tuples(st.integers(x0 + 1, width), st.integers(y0 + 1, height)))
    pair = numbered(height, width, (Box("car", x0, y0, x1, y1),))
    painted = np.zeros((height, width), bool)
    painted[y0:y1, x0:x1] = True

    cut = crop_pair(pair, top, left, size)
    assert cut.size == size
    assert cut.rainy[0, 0].tolist() == [top, left, top ^ left]
    assert np.array_equal(cut.clean, 255 - cut.rainy)
    assert cut.labels.classes is not None
    assert cut.labels.classes.shape == size
    assert (cut.labels.classes[:, 0] == np.arange(top, top + size[0])).all()
    expected = painted[top : top + size[0], left : left + size[1]]
    drawn = np.zeros(size, bool)
    for box in cut.labels.boxes:
        drawn[box.y0 : box.y1, box.x0 : box.x1] = True
    assert np.array_equal(drawn, expected)
    assert len(cut.labels.boxes) == int(expected.any())


def test_centre_crop() -> None:
    scenes = SceneSource(2, size=(65, 80))
    cropped = Cropped(scenes, (32, 33))
    assert isinstance(cropped, PairSource)
    assert cropped.ids() == scenes.ids()
    whole, part = scenes[1], cropped[1]
    assert np.array_equal(part.rainy, whole.rainy[16:48, 23:56])  # (65 - 32) // 2, (80 - 33) // 2
    assert np.array_equal(part.clean, whole.clean[16:48, 23:56])  # type: ignore[index]
    assert dict(cropped.identity) != dict(scenes.identity)


def test_keyed_crop_depends_on_the_id_and_the_seed_only() -> None:
    scenes = SceneSource(6, size=(64, 64))
    cropped = Cropped(scenes, (32, 32), at="keyed")
    alone = Cropped(Limited(scenes, 2), (32, 32), at="keyed")
    assert np.array_equal(cropped[1].rainy, alone[1].rainy)
    other = Cropped(scenes, (32, 32), at="keyed", seed=1)
    assert any(not np.array_equal(cropped[i].rainy, other[i].rainy) for i in range(6))
    assert dict(cropped.identity) != dict(other.identity)


def test_limit_takes_the_first() -> None:
    scenes = SceneSource(5, size=(32, 32))
    few = Limited(scenes, 3)
    assert isinstance(few, PairSource)
    assert len(few) == 3
    assert few.ids() == scenes.ids()[:3] == [pair.id for pair in iterate(few)]
    assert len(Limited(scenes, 99)) == 5
    assert few.name == "scenes"
    assert few.paired
    with pytest.raises(IndexError):
        few[3]


def test_refusals() -> None:
    scenes = SceneSource(1, size=(40, 40))
    with pytest.raises(UsageError, match="limit 0"):
        Limited(scenes, 0)
    with pytest.raises(UsageError, match="crop 31x40"):
        Cropped(scenes, (31, 40))
    place: CropPlace = "corner"  # type: ignore[assignment]
    with pytest.raises(UsageError, match="corner"):
        Cropped(scenes, (32, 32), at=place)
    with pytest.raises(ImageError, match=r"scene-test-000000 of scenes: is 40x40 .*smaller than the crop 41x32"):
        Cropped(scenes, (41, 32))[0]
