"""Intervals of figures over a whole set: SciPy's BCa interval for many scenes, longer tails for few, scenes whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploy_robust.statistics.dataset import dataset_interval


def mean_of(values: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda weights: weights @ values / weights.sum(1)


def ratio_of(top: np.ndarray, bottom: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda weights: (weights @ top) / (weights @ bottom)


@pytest.mark.parametrize("seed", [0, 1])
def test_for_many_scenes_it_is_scipys(seed: int) -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(seed)
    bottom = rng.uniform(1, 2, 300)
    top = bottom * rng.exponential(1.0, 300)
    found = dataset_interval(ratio_of(top, bottom), [str(i) for i in range(300)], draws=20_000)
    theirs = bootstrap(
        (top, bottom),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.mean == pytest.approx(top.sum() / bottom.sum())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_the_interval_of_few_scenes_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        found = dataset_interval(mean_of(rng.standard_normal(8)), list("abcdefgh"), draws=400)
        covered += found.low <= 0 <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_images_of_one_scene_are_drawn_together() -> None:
    values = np.array([0.0, 10.0, 0.0, 10.0, 0.0, 10.0])
    apart = dataset_interval(mean_of(values), list("abcdef"))
    together = dataset_interval(mean_of(values), list("aabbcc"))  # every scene has the same mean
    assert apart.high - apart.low > 5
    assert (together.low, together.high) == pytest.approx((5.0, 5.0))


def test_one_scene_shows_no_spread_and_an_undefined_figure_has_no_interval() -> None:
    assert dataset_interval(mean_of(np.array([1.0, 2.0])), ["a", "a"]) == (1.5, -math.inf, math.inf)
    value, low, high = dataset_interval(lambda weights: np.full(len(weights), np.nan), ["a", "b"])
    assert math.isnan(value)
    assert (low, high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="needs images"):
        dataset_interval(mean_of(np.zeros(0)), [])


def test_the_same_set_has_the_same_interval_and_it_holds_the_value() -> None:
    values = np.random.default_rng(5).uniform(size=12) ** 3
    first, again = (dataset_interval(mean_of(values), list("abcdefghijkl")) for _ in range(2))
    assert first == again
    assert first.low <= first.mean <= first.high


def test_draws_without_the_figure_are_left_out() -> None:
    """An AP of draws that hold no object is not defined; the others decide."""

    def figure(weights: np.ndarray) -> np.ndarray:
        there = weights[:, :4].sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(there > 0, weights[:, 0] / there, np.nan)

    found = dataset_interval(figure, list("abcdefgh"))
    assert found.mean == pytest.approx(0.25)
    assert 0 <= found.low < found.high <= 1
