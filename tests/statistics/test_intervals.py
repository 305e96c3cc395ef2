"""The t interval against SciPy, and its coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deploy_robust.statistics.intervals import mean_interval


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=40).filter(lambda v: np.std(v) > 1e-6),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_it_is_the_interval_of_scipy(values: list[float], confidence: float) -> None:
    low, high = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert mean_interval(values, confidence) == pytest.approx((np.mean(values), low, high), rel=1e-9, abs=1e-9)


def test_one_draw_decides_nothing() -> None:
    assert mean_interval([3.0]) == (3.0, -math.inf, math.inf)


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(2.0, 3.0, (2000, 24))
    covered = [low <= 2.0 <= high for _, low, high in (mean_interval(list(row)) for row in draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([1.0], 0.0), ([1.0], 1.0)])
def test_nonsense_is_refused(values: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match="interval needs"):
        mean_interval(values, confidence)
