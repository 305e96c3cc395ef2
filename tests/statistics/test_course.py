"""How tests went: decisions, limits that cover, and sets whose answers become certain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploy_robust.errors import UsageError
from deploy_robust.statistics.course import Test

GATES = 400
MARGIN = 3 * math.sqrt(0.05 * 0.95 / GATES)


def test_nothing_counts_after_the_decision() -> None:
    test = Test(0.05, rate=True)
    course = test.follow([0.0] * 68 + [1.0] * 20)
    assert (course.units, course.passed, course.exact) == (68, True, False)
    assert course.log_pass[-1] >= course.bar_pass > course.log_pass[-2]
    low, high = test.limits(course)
    assert low == 0
    assert 0.045 < high < 0.05


def test_the_limits_agree_with_the_decision() -> None:
    rng = np.random.default_rng(0)
    for test, draw in (
        (Test(0.1, rate=True), lambda rate: rng.random(300) < rate),
        (Test(0.5, rate=False), lambda mean: rng.beta(6 * mean, 6 * (1 - mean), 300)),
    ):
        for level in (0.4, 1.0, 2.0) if test.rate else (0.8, 1.0, 1.2):
            course = test.follow(draw(level * test.bound).astype(float).tolist())
            low, high = test.limits(course)
            assert low <= np.mean(course.losses) <= high
            if course.passed is not None:
                assert (high < test.bound) if course.passed else (low > test.bound)
            else:
                assert low <= test.bound <= high


@pytest.mark.parametrize("kind", ["rate", "mean"])
def test_the_limits_of_a_stream_cover_after_a_stop_that_depends_on_the_data(kind: str) -> None:
    rng, truth = np.random.default_rng(1), 0.3
    test = Test(truth, rate=kind == "rate")
    missed = np.zeros(2)
    for _ in range(GATES):
        x = (rng.random(120) < truth).astype(float) if kind == "rate" else rng.beta(3, 7, 120)
        # The most tempting place to stop: where the mean looked best.
        means = np.cumsum(x) / np.arange(1, 121)
        low, high = test.limits(test.follow(x[: 20 + int(means[20:].argmin()) + 1].tolist()))
        missed += [low > truth, high < truth]
    assert (missed / GATES <= 0.05 + MARGIN).all()


@pytest.mark.parametrize("kind", ["rate", "mean"])
def test_a_set_just_beyond_its_bound_passes_wrongly_at_most_alpha_of_the_time(kind: str) -> None:
    rng = np.random.default_rng(2)
    x = (np.arange(100) < 11).astype(float) if kind == "rate" else rng.beta(2, 3, 100)
    bound = 0.10 if kind == "rate" else float(x.mean()) - 1e-3
    test = Test(bound, rate=kind == "rate", total=100)
    courses = [test.follow(rng.permutation(x).tolist()) for _ in range(GATES)]
    assert np.mean([course.passed is True for course in courses]) <= 0.05 + MARGIN
    assert all(course.exact for course in courses if course.passed is False)
    covered = [test.limits(course)[1] >= x.mean() - 1e-9 for course in courses]
    assert np.mean(covered) >= 0.95 - MARGIN


def test_a_whole_set_is_always_decided_and_its_limits_meet() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        values = rng.beta(1, 2, 20)
        test = Test(0.33, rate=False, total=20)
        course = test.follow(values.tolist())
        assert course.passed is not None
        if course.exact:
            assert course.passed == (values.mean() <= 0.33)
        complete = Test(1 - 1e-6, rate=False, total=20, alpha_pass=1e-300).follow(values.tolist())
        assert complete.passed
    failing = Test(0.2, rate=True, total=10).follow([1.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 1.0])
    assert (failing.passed, failing.exact, failing.units) == (False, True, 10)


def test_a_failure_that_costs_all_bets_on_none_is_no_nan() -> None:
    course = Test(0.05, rate=True).follow([1.0, 0.0, 1.0, 1.0])
    assert course.passed is False
    assert all(not math.isnan(value) for value in (*course.log_pass, *course.log_fail))


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Test(1.0, rate=True)
    with pytest.raises(UsageError, match="has 2 units and 3"):
        Test(0.5, rate=True, total=2).follow([0, 0, 0])
