"""Keyed draws."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from deploy_robust import keyed


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]


def test_bits_never_change() -> None:
    """Stored runs are resumed and compared by these bits: a change here breaks every run folder."""
    assert digest(keyed.uniform(7, "noise", "scene-test-000001", 2, shape=(3, 17, 19))) == "4261444b36529bf8"
    assert digest(keyed.signs(7, "corner", "scene-test-000001", 2, shape=(3, 17, 19))) == "e7ba00e3eeb54edb"


def test_uniform_is_uniform_on_minus_one_to_one() -> None:
    draws = keyed.uniform(0, "range", shape=(200_001,))
    assert draws.dtype == np.float32
    assert draws.shape == (200_001,)
    assert draws.min() >= -1.0
    assert draws.max() < 1.0
    assert np.array_equal(draws * 2**23, np.rint(draws * 2**23))
    assert stats.kstest(draws[:50_000], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(draws.mean()) < 5 * np.sqrt(1 / 3 / draws.size)


def test_signs_are_fair_and_independent() -> None:
    draws = keyed.signs(0, "fair", shape=(100, 1001))
    assert draws.dtype == np.int8
    assert set(np.unique(draws)) == {-1, 1}
    flat = draws.ravel().astype(float)
    bound = 5 / np.sqrt(flat.size)
    assert abs(flat.mean()) < bound
    for lag in (1, 2, 8, 64):
        assert abs(np.mean(flat[lag:] * flat[:-lag])) < bound


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65])
def test_a_longer_draw_begins_with_the_shorter_one(count: int) -> None:
    assert np.array_equal(keyed.uniform(0, "a", shape=(count,)), keyed.uniform(0, "a", shape=(130,))[:count])
    assert np.array_equal(keyed.signs(0, "a", shape=(count,)), keyed.signs(0, "a", shape=(130,))[:count])


def test_keys_are_independent() -> None:
    keys: list[tuple[keyed.Part, ...]] = [
        (0, "a"),
        (1, "a"),
        (0, "b"),
        (0, "a", 1),
        (0, "a", "1"),
        (0, "a", 1.0),
        (0, 1),
    ]
    draws = np.stack([keyed.uniform(0, *key, shape=(20_000,)) for key in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_parts_are_told_apart() -> None:
    assert not np.array_equal(keyed.uniform(0, "ab", "c", shape=(8,)), keyed.uniform(0, "a", "bc", shape=(8,)))
    assert not np.array_equal(keyed.uniform(0, "a\x1fstr:'b'", shape=(8,)), keyed.uniform(0, "a", "b", shape=(8,)))


def test_the_same_key_gives_the_same_generator() -> None:
    assert keyed.generator(1, "x").random() == keyed.generator(1, "x").random()
    assert keyed.generator(1, "x").random() != keyed.generator(1, "y").random()
