"""The bootstrap against SciPy's, against all resamples there are, and against what it promises."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deploy_robust.statistics.bootstrap import bootstrap_interval


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "integers"])
@pytest.mark.parametrize("n", [8, 24, 600])
def test_it_is_scipys_within_the_scatter_of_resampling(draw: str, n: int) -> None:
    generator = np.random.default_rng([n, len(draw)])
    x = generator.integers(0, 4, n).astype(float) if draw == "integers" else getattr(generator, draw)(size=n)
    ours = bootstrap_interval(list(x), 0.9)
    theirs = stats.bootstrap(
        (x,), np.mean, confidence_level=0.9, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert math.isclose(ours.mean, x.mean(), rel_tol=1e-12)
    assert abs(ours.low - theirs.low) < 0.06 * width
    assert abs(ours.high - theirs.high) < 0.06 * width


def test_it_is_the_one_over_all_resamples() -> None:
    """Five values have 3125 resamples; all of them together are what the drawn ones stand for."""
    x = np.array([0.3, -1.2, 2.0, 0.8, -0.1])
    means = np.array([np.mean(sample) for sample in itertools.product(x, repeat=5)])
    below = (np.sum(means < x.mean() - 1e-12) + 0.5 * np.sum(np.abs(means - x.mean()) < 1e-12)) / means.size
    bias = stats.norm.ppf(below)
    jackknife = np.array([np.delete(x, i).mean() for i in range(5)])
    moved = jackknife.mean() - jackknife
    acceleration = (moved**3).sum() / (6 * (moved**2).sum() ** 1.5)
    ends = []
    for tail in (0.05, 0.95):
        z = bias + stats.norm.ppf(tail)
        ends.append(np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z))))
    found = bootstrap_interval(list(x), 0.9, resamples=100_000)
    width = ends[1] - ends[0]
    assert abs(found.low - ends[0]) < 0.03 * width
    assert abs(found.high - ends[1]) < 0.03 * width


def test_it_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        found = bootstrap_interval(list(generator.normal(1.0, 2.0, 24)), 0.95, resamples=1000)
        hits += found.low <= 1.0 <= found.high
    assert 0.90 <= hits / 400 <= 0.98  # the bootstrap of 24 draws is a little short of 0.95


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-50, 50).map(lambda v: round(v, 3)), min_size=2, max_size=30),
    st.floats(-5, 5),
    st.floats(0.1, 10),
)
def test_it_moves_and_grows_with_the_values(values: list[float], shift: float, scale: float) -> None:
    plain = bootstrap_interval(values, resamples=500)
    moved = bootstrap_interval([scale * v + shift for v in values], resamples=500)
    assert plain.low <= plain.mean <= plain.high
    for ours, theirs in zip(plain, moved, strict=True):
        assert math.isclose(scale * ours + shift, theirs, abs_tol=1e-6 * (1 + abs(theirs)))


def test_the_edges() -> None:
    assert bootstrap_interval([2.0]) == (2.0, -math.inf, math.inf)
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    for values, confidence, resamples in (
        ([], 0.9, 500),
        ([math.inf, 1.0], 0.9, 500),
        ([1.0], 1.0, 500),
        ([1.0], 0.9, 5),
    ):
        with pytest.raises(ValueError, match="a bootstrap needs"):
            bootstrap_interval(values, confidence, resamples=resamples)


def test_nothing_is_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap_interval([0.0, 0.0, 0.0, 1e-9])
