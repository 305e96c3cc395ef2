"""The betting test without replacement: a claim about a named, finite set of images, and about nothing else.

The claim to be refuted is "at least K0 = floor(p0 N) + 1 of the N units fail". Drawn in a random order that was fixed
beforehand, the next unit then fails with probability m_t = (K0 - failures so far) / (units left), at least
(Waudby-Smith and Ramdas, NeurIPS 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.errors import UsageError
from deploy_robust.statistics.betting import MEAN_BETS, PASS_RATIOS, PASS_WEIGHTS, border, checked, log_threshold

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FiniteProgress:
    """Where the test stands.

    Attributes:
        units: Units drawn until it was decided, or all that were given.
        failures: Of them; 0 for a mean.
        log_pass: Logarithm of the wealth for a PASS after each unit, (units,); infinite once the claim is impossible.
        passed: True, False, or None while it is open.
        exact: Whether the answer is certain and not statistical.
    """

    units: int
    failures: int
    log_pass: NDArray[np.float64]
    passed: bool | None
    exact: bool


def follow_finite(failed: Iterable[bool], *, total: int, p0: float, alpha: float = 0.05) -> FiniteProgress:
    """Feeds the outcomes of units in their registered random order.

    Args:
        failed: Whether each unit failed; what comes after the decision is not looked at, and all units decide.
        total: Units in the set, N.
        p0: Largest share of failing units that may PASS.
        alpha: Probability with which a set with a larger share may PASS.

    Raises:
        UsageError: A number is out of range.
    """
    if total < 1 or not 0 <= p0 < 1:
        raise UsageError(f"a finite test needs units and a rate p0 in [0, 1) (got {total} units, p0 {p0})")
    threshold = log_threshold(alpha)
    least = math.floor(p0 * total + 1e-9) + 1
    ratios = np.array(PASS_RATIOS)
    logs = np.log(np.array(PASS_WEIGHTS))
    wealth: list[float] = []
    failures = 0
    for drawn, outcome in enumerate(failed, start=1):
        expected = (least - failures) / (total - drawn + 1)
        failures += bool(outcome)
        if failures >= least:
            wealth.append(-math.inf)
            return FiniteProgress(drawn, failures, np.array(wealth), passed=False, exact=True)
        if not outcome and expected >= 1:
            wealth.append(math.inf)
            return FiniteProgress(drawn, failures, np.array(wealth), passed=True, exact=True)
        with np.errstate(divide="ignore"):
            logs = logs + (np.log(ratios) if outcome else np.log1p(-ratios * expected) - math.log1p(-expected))
        wealth.append(float(np.logaddexp.reduce(logs)))
        if wealth[-1] >= threshold:
            return FiniteProgress(drawn, failures, np.array(wealth), passed=True, exact=False)
    return FiniteProgress(len(wealth), failures, np.array(wealth), passed=None, exact=False)


def upper_count(failed: Sequence[bool], *, total: int, alpha: float = 0.05) -> int:
    """The largest number of failing units in the set that the outcomes so far do not exclude."""
    seen = sum(failed)
    inside, outside = seen, min(total, total - len(failed) + seen) + 1  # as a number of failures: possible, impossible
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if follow_finite(failed, total=total, p0=(middle - 1) / total, alpha=alpha).passed:
            outside = middle
        else:
            inside = middle
    return inside


def follow_finite_mean(losses: Sequence[float], *, total: int, bound: float, alpha: float = 0.05) -> FiniteProgress:
    """The same for the mean of bounded losses: PASS claims that the mean over the whole set is at most `bound`.

    Under the other claim the next loss is (total bound - losses so far) / (units left) or more in expectation.

    Args:
        losses: X of each unit in [0, 1], in the registered random order.
        total: Units in the set, N.
        bound: Mean loss that separates PASS from FAIL, between 0 and 1.
        alpha: Probability with which a set with a larger mean may PASS.

    Raises:
        UsageError: A loss lies outside [0, 1].
    """
    x = checked(losses)
    target = total * bound
    sums = np.cumsum(x)
    left = total - np.arange(1, len(x) + 1)
    slack = 1e-9 * total  # sums of floats; beyond it the answer is certain
    broken = np.flatnonzero(sums > target + slack)
    safe = np.flatnonzero(sums + left <= target + slack)
    certain = min((int(first[0]) for first in (broken, safe) if first.size), default=len(x))
    count = min(certain + 1, len(x))
    expected = (target - np.concatenate([[0.0], sums[: count - 1]])) / (left[:count] + 1)
    bets = np.array(MEAN_BETS)[:, None] / np.maximum(1 - expected, 1e-12)
    with np.errstate(divide="ignore"):
        factors = np.log(np.maximum(1 + bets * (expected - x[:count]), 0.0))
    wealth = np.logaddexp.reduce(np.cumsum(factors, axis=1), axis=0) - math.log(len(MEAN_BETS))
    crossed = np.flatnonzero(wealth >= log_threshold(alpha))
    if crossed.size and int(crossed[0]) < certain:
        drawn = int(crossed[0]) + 1
        return FiniteProgress(drawn, 0, wealth[:drawn], passed=True, exact=False)
    if certain == len(x):
        return FiniteProgress(len(x), 0, wealth, passed=None, exact=False)
    passed = not (broken.size and int(broken[0]) == certain)
    return FiniteProgress(count, 0, np.append(wealth[:-1], math.inf if passed else -math.inf), passed, exact=True)


def upper_mean(losses: Sequence[float], *, total: int, alpha: float = 0.05) -> float:
    """The largest mean loss of the whole set that the losses so far do not exclude."""
    seen = math.fsum(losses)
    most = (seen + total - len(losses)) / total

    def excluded(mean: float) -> bool:
        return follow_finite_mean(losses, total=total, bound=mean, alpha=alpha).passed is True

    inside = min(max(seen / len(losses), _TINY), most)
    return border(inside, most, excluded) if most < 1 - _TINY else border(inside, 1 - _TINY, excluded)


_TINY = 1e-9
