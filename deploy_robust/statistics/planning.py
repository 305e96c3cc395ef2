"""How a sequential test of a failure rate will go, computed exactly and not simulated.

For outcomes of 0 and 1 the wealth depends on units and failures alone, so that a dynamic programme over the two gives
the probability of every ending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.errors import UsageError
from deploy_robust.statistics.betting import RateBets, log_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Characteristics:
    """What a test comes to for one true failure rate.

    Attributes:
        passes: Probability of a PASS.
        fails: Probability of a FAIL.
        open: Probability that it is still open at the largest number of units.
        mean_units: Expected number of units.
        units: Probability of ending after n units, index 0 for n = 1; what is open ends at the last.
    """

    passes: float
    fails: float
    open: float
    mean_units: float
    units: Floats

    def quantile(self, share: float) -> int:
        """Units that suffice with this probability."""
        return int(np.searchsorted(np.cumsum(self.units), share - 1e-12)) + 1


def characteristics(
    rate: float, *, p0: float, largest: int, alpha_pass: float = 0.05, alpha_fail: float = 0.05
) -> Characteristics:
    """The exact operating characteristics of `betting.follow` with `betting.RateBets`.

    Args:
        rate: True failure rate, in [0, 1].
        p0: The rate that separates PASS from FAIL.
        largest: Units after which an open test ends, N_max.
        alpha_pass: Probability with which a bad engine may PASS.
        alpha_fail: Probability with which a good engine may FAIL.

    Raises:
        UsageError: A number is out of range.
    """
    if not 0 <= rate <= 1 or largest < 1:
        raise UsageError(f"a plan needs a rate in [0, 1] and at least one unit (got {rate}, {largest})")
    decisions = _Decisions(p0, alpha_pass, alpha_fail)
    alive = np.array([1.0])  # probability of k failures so far, undecided
    ending = np.zeros(largest)
    passes = fails = 0.0
    for n in range(1, largest + 1):
        grown = np.zeros(n + 1)
        grown[:-1] += alive * (1 - rate)
        grown[1:] += alive * rate
        good, bad = decisions.after(n)
        passes += float(grown[good].sum())
        fails += float(grown[bad & ~good].sum())
        ending[n - 1] = grown[good | bad].sum()
        alive = np.where(good | bad, 0.0, grown)
    open_ = float(alive.sum())
    ending[-1] += open_
    return Characteristics(passes, fails, open_, float(ending @ np.arange(1, largest + 1)), ending)


def pass_boundary(failures: int, *, p0: float, alpha: float = 0.05, largest: int = 100_000) -> int | None:
    """Units after which so many failures are few enough for a PASS; None beyond `largest`."""
    decisions = _Decisions(p0, alpha, alpha)
    for n in range(max(failures, 1), largest + 1):
        if decisions.passing(n, failures):
            return n
    return None


class _Decisions:
    """Which numbers of failures decide after n units."""

    def __init__(self, p0: float, alpha_pass: float, alpha_fail: float) -> None:
        bets, ends = RateBets(p0), np.array([0.0, 1.0])
        (self._good, self._good_shares), (self._bad, self._bad_shares) = bets.log_pass(ends), bets.log_fail(ends)
        self._thresholds = log_threshold(alpha_pass), log_threshold(alpha_fail)

    def after(self, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For k = 0 .. n failures: whether the test passes, whether it fails."""
        k = np.arange(n + 1.0)
        return (
            _wealth(self._good, self._good_shares, n, k) >= self._thresholds[0],
            _wealth(self._bad, self._bad_shares, n, k) >= self._thresholds[1],
        )

    def passing(self, n: int, failures: int) -> bool:
        """Whether the test passes after n units with so many failures."""
        wealth = _wealth(self._good, self._good_shares, n, np.array([float(failures)]))
        return bool(wealth[0] >= self._thresholds[0])


def _wealth(factors: Floats, shares: Floats, n: int, k: Floats) -> Floats:
    """Logarithm of the wealth after n units, k of which failed; factors are (bets, 2) for outcomes 0 and 1."""
    with np.errstate(invalid="ignore"):
        lost = np.where(k > 0, factors[:, 1:] * k, 0.0)  # 0 times -inf is nothing lost
    return np.asarray(np.logaddexp.reduce(factors[:, :1] * (n - k) + lost + shares[:, None], axis=0))
