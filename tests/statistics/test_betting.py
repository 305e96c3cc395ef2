"""Sequential tests: the exact table, error rates over simulated gates, and a peeking test that breaks its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from deploy_robust.errors import UsageError
from deploy_robust.statistics.betting import (
    MeanBets,
    RateBets,
    follow,
    limits,
    mean_psnr_bets,
    psnr_loss,
    spent_alpha,
)
from deploy_robust.statistics.finite import follow_finite
from deploy_robust.statistics.planning import characteristics, pass_boundary

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (p0, N_max): rows of (true rate, PASS, FAIL, open, expected units)
TABLE = {
    (0.05, 600): [
        (0.0, 1.000, 0.000, 0.000, 68.00),
        (0.0125, 0.998, 0.000, 0.002, 162.39),
        (0.025, 0.700, 0.001, 0.299, 373.19),
        (0.0375, 0.183, 0.004, 0.813, 530.22),
        (0.05, 0.042, 0.020, 0.938, 570.30),
        (0.075, 0.005, 0.480, 0.515, 450.60),
        (0.10, 0.001, 0.975, 0.024, 203.40),
        (0.25, 0.000, 1.000, 0.000, 20.79),
    ],
    (0.10, 300): [
        (0.025, 0.997, 0.001, 0.002, 78.37),
        (0.05, 0.714, 0.003, 0.284, 181.94),
        (0.10, 0.042, 0.028, 0.930, 282.81),
        (0.20, 0.001, 0.986, 0.014, 91.46),
    ],
}


@pytest.mark.parametrize(("setting", "rows"), TABLE.items(), ids=str)
def test_operating_characteristics_are_the_recorded_ones(setting: tuple[float, int], rows: list[Any]) -> None:
    p0, largest = setting
    for rate, *probabilities, units in rows:
        found = characteristics(rate, p0=p0, largest=largest)
        assert (found.passes, found.fails, found.open) == pytest.approx(probabilities, abs=1e-3)
        assert found.mean_units == pytest.approx(units, abs=0.01)
        assert found.units.sum() == pytest.approx(1)


def test_pass_boundaries_are_the_recorded_ones() -> None:
    assert [pass_boundary(k, p0=0.05) for k in range(6)] == [68, 136, 179, 219, 257, 292]
    assert [pass_boundary(k, p0=0.10) for k in range(6)] == [33, 67, 88, 108, 126, 144]
    assert [pass_boundary(k, p0=0.01) for k in range(3)] == [343, 691, 907]
    assert [pass_boundary(k, p0=0.20) for k in range(6)] == [16, 32, 42, 52, 61, 70]


@pytest.mark.parametrize(
    ("p0", "boundary"), [(0.05, {2: 2, 3: 6, 4: 12, 5: 20, 6: 28}), (0.10, {2: 2, 3: 4, 4: 7, 5: 11, 6: 15})]
)
def test_fail_boundaries_are_the_recorded_ones(p0: float, boundary: dict[int, int]) -> None:
    """So many failures fail when they are among the first so many units, and not among one unit more."""
    for failures, units in boundary.items():
        # All but one come last, so that nothing was decided on the way.
        for n, decided in ((units, True), (units + 1, False)):
            progress = follow([0] * (n - failures) + [1] * failures, RateBets(p0))
            assert bool(progress.log_fail[-1] >= math.log(20)) is decided


def test_the_programme_follows_the_same_rule_as_the_test() -> None:
    rng = np.random.default_rng(5)
    exact = characteristics(0.12, p0=0.10, largest=150)
    gates = [follow(rng.random(150) < 0.12, RateBets(0.10)) for _ in range(3000)]
    units = np.mean([g.stopped or 150 for g in gates])
    fails = np.mean([g.stopped is not None and not g.passed for g in gates])
    assert units == pytest.approx(exact.mean_units, rel=0.02)
    assert fails == pytest.approx(exact.fails, abs=4 * math.sqrt(exact.fails * (1 - exact.fails) / 3000))


def test_peeking_at_clopper_pearson_breaks_its_error_and_betting_keeps_it() -> None:
    """On the same draws at p = p0: a limit of fixed samples looked at after each unit, and the wealth."""
    rng, p0, n, gates = np.random.default_rng(1), 0.05, 600, 2000
    x = rng.random((gates, n)) < p0
    failures, units = np.cumsum(x, axis=1), np.arange(1, n + 1)
    upper = beta.ppf(0.95, failures + 1, units - failures)
    peeked = float(((upper < p0) & (units >= 10)).any(axis=1).mean())
    bet = np.mean([(g := follow(row, RateBets(p0))).stopped is not None and g.passed for row in x])
    assert 0.12 < peeked < 0.25
    assert bet <= 0.05


def _beta_losses(rng: np.random.Generator, mean: float, nu: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.beta(mean * nu, (1 - mean) * nu, shape)


@pytest.mark.parametrize("kind", ["nu 30", "nu 5", "two points", "bernoulli"])
def test_a_bound_on_a_mean_passes_wrongly_at_most_alpha_of_the_time(kind: str) -> None:
    rng, gates, n = np.random.default_rng(2), 2000, 800
    bets = mean_psnr_bets(20.0)
    if kind == "two points":
        low, high = psnr_loss(2.0), psnr_loss(22.0)  # one in ten at 2 dB, and 20 dB in the mean
        x = np.where(rng.random((gates, n)) < 0.1, low, high)
    elif kind == "bernoulli":
        x = (rng.random((gates, n)) < 0.5).astype(float)
    else:
        x = _beta_losses(rng, 0.5, float(kind.split()[1]), (gates, n))
    assert x.mean() == pytest.approx(0.5, abs=0.005)
    passed = [(g := follow(row, bets)).stopped is not None and g.passed for row in x]
    assert np.mean(passed) <= 0.05


def test_a_bound_on_a_mean_is_decided_where_the_mean_is_clearly_on_one_side() -> None:
    rng = np.random.default_rng(3)
    better, worse = (_beta_losses(rng, 1 - psnr / 40, 30, (200, 800)) for psnr in (22, 18))
    good = [follow(row, mean_psnr_bets(20.0)) for row in better]
    bad = [follow(row, mean_psnr_bets(20.0)) for row in worse]
    assert all(g.stopped is not None and g.passed for g in good)
    assert all(g.stopped is not None and not g.passed for g in bad)
    assert np.mean([g.stopped or 0 for g in good]) == pytest.approx(65, abs=8)


@pytest.mark.parametrize(("failing", "units"), [(0, 43), (1, 55), (2, 69), (5, 96)])
def test_a_finite_set_within_its_bound_passes_after_the_recorded_units(failing: int, units: int) -> None:
    rng = np.random.default_rng(4)
    outcomes = np.arange(100) < failing
    gates = [follow_finite(rng.permutation(outcomes), total=100, p0=0.05) for _ in range(1000)]
    assert all(g.passed for g in gates)
    assert np.mean([g.units for g in gates]) == pytest.approx(units, abs=1.5)


def test_a_finite_set_beyond_its_bound_passes_wrongly_at_most_alpha_of_the_time_and_a_fail_is_certain() -> None:
    rng = np.random.default_rng(6)
    outcomes = np.arange(100) < 6
    gates = [follow_finite(rng.permutation(outcomes), total=100, p0=0.05) for _ in range(2000)]
    assert np.mean([bool(g.passed) for g in gates]) <= 0.05
    assert all(g.exact and g.failures == 6 for g in gates if not g.passed)
    many = [follow_finite(rng.permutation(np.arange(100) < 20), total=100, p0=0.05) for _ in range(1000)]
    assert not any(g.passed for g in many)
    assert np.mean([g.units for g in many]) == pytest.approx(29, abs=1.5)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.0, 0.05, 0.2, 0.5]))
@settings(deadline=None, max_examples=200)
def test_a_finite_test_that_sees_every_unit_is_exact(outcomes: list[bool], p0: float) -> None:
    found = follow_finite(outcomes, total=len(outcomes), p0=p0)
    assert found.passed is not None
    if found.exact:
        assert found.passed == (sum(outcomes) <= math.floor(p0 * len(outcomes) + 1e-9))
    assert not np.isnan(found.log_pass).any()


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.001, 0.999), st.booleans())
@settings(deadline=None, max_examples=200)
def test_wealth_is_never_nan_and_goes_on_where_it_was(losses: list[float], bound: float, rate: bool) -> None:
    bets = RateBets(bound) if rate else MeanBets(bound)
    whole, half = follow(losses, bets), follow(losses[: len(losses) // 2], bets)
    for a, b in ((whole.log_pass, half.log_pass), (whole.log_fail, half.log_fail)):
        assert not np.isnan(a).any()
        assert np.array_equal(a[: len(b)], b), "a resumed test continues the same wealth"


@given(st.lists(st.floats(0, 1), max_size=80))
@settings(deadline=None, max_examples=100)
def test_limits_enclose_the_mean(losses: list[float]) -> None:
    low, high = limits(losses)
    assert 0 <= low <= high <= 1
    if losses:
        assert low - 1e-6 <= float(np.mean(losses)) <= high + 1e-6


def test_limits_agree_with_the_decision_and_cover_at_every_look() -> None:
    assert limits([0] * 67)[1] > 0.05 > limits([0] * 68)[1]
    assert limits([]) == (0.0, 1.0)
    rng, p = np.random.default_rng(8), 0.2
    missed = 0
    for _ in range(200):
        x = rng.random(120) < p
        missed += any(limits(x[:n])[1] < p for n in range(5, 121, 5))
    assert missed <= 0.05 * 200 + 2 * math.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize(("failures", "units"), [(5, 5), (3, 4), (12, 20), (9, 10), (40, 60), (1, 8)])
def test_no_rate_below_the_lower_limit_or_above_the_upper_one_is_still_possible(failures: int, units: int) -> None:
    """Every rate of a grid, and those at which two bets for a FAIL meet, tested one by one."""
    x = [1] * failures + [0] * (units - failures)
    low, high = limits(x)
    meeting = [q / r for q in (0.5, 0.9, 0.999) for r in (1, 1.25, 1.5, 2, 3, 5, 10, 20)]
    for p0 in (*np.linspace(0.002, 0.998, 499), *meeting):
        progress = follow(x, RateBets(float(p0)))
        if p0 < low - 1e-9:
            assert progress.log_fail[-1] >= math.log(20), p0
        if p0 > high + 1e-9:
            assert progress.log_pass[-1] >= math.log(20), p0


def test_alpha_is_spent_over_attempts() -> None:
    shares = [spent_alpha(0.05, attempt) for attempt in range(1, 100_000)]
    assert sum(shares) == pytest.approx(0.05, rel=1e-4)
    assert shares[0] == pytest.approx(0.0304, abs=1e-4)
    with pytest.raises(UsageError):
        spent_alpha(0.05, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RateBets(0.0),
        lambda: MeanBets(1.0),
        lambda: mean_psnr_bets(45.0),
        lambda: follow([1.5], RateBets(0.1)),
        lambda: follow([math.nan], RateBets(0.1)),
        lambda: follow([0], RateBets(0.1), alpha_pass=0.0),
        lambda: characteristics(1.2, p0=0.1, largest=10),
        lambda: follow_finite([False], total=9, p0=0.1, alpha=1.0),
        lambda: follow_finite([False], total=0, p0=0.1),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()
