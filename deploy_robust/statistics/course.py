"""How a test by betting went, unit by unit: one record for rates and means, for streams and finite sets.

A *stream* is sampled for as long as one likes; a *set* has so many units and is drawn without replacement, in an order
that was fixed beforehand. Losses lie in [0, 1]; small is good, and a PASS claims that their mean is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError
from deploy_robust.statistics.betting import MeanBets, RateBets, border, checked, follow, limits, log_threshold
from deploy_robust.statistics.finite import follow_finite, follow_finite_mean, upper_count, upper_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@dataclass(frozen=True, slots=True)
class Course:
    """Where a test stands after each unit that counts: none does after the decision.

    Attributes:
        losses: X of each of these units.
        log_pass: Natural logarithm of the wealth for a PASS after each; -inf where all was lost, inf where the other
            claim became impossible.
        log_fail: The same for a FAIL; empty for a set, whose FAIL is certain and not statistical.
        bar_pass: The logarithm that decides for a PASS.
        bar_fail: The one that decides for a FAIL.
        passed: The decision; None while it is open.
        exact: Whether the decision is certain: it holds whatever the units that were not drawn would be.
    """

    losses: tuple[float, ...]
    log_pass: tuple[float, ...]
    log_fail: tuple[float, ...]
    bar_pass: float
    bar_fail: float
    passed: bool | None
    exact: bool

    @property
    def units(self) -> int:
        """How many units count."""
        return len(self.losses)


@dataclass(frozen=True, slots=True)
class Test:
    """A test that was registered: what it is about and which errors it may make.

    Attributes:
        bound: The mean loss that separates PASS from FAIL, between 0 and 1.
        rate: Whether losses are failures (0 or 1, or shares of them) rather than values of a bounded quantity.
        total: Units of a finite set; None for a stream.
        alpha_pass: Probability with which a bad engine may PASS.
        alpha_fail: Probability with which a good engine may FAIL.

    Raises:
        UsageError: A number is out of range.
    """

    __test__ = False  # not one of pytest's

    bound: float
    rate: bool
    total: int | None = None
    alpha_pass: float = 0.05
    alpha_fail: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1:
            raise UsageError(f"a bound on a mean loss lies between 0 and 1 (got {self.bound})")
        if self.total is not None and self.total < 1:
            raise UsageError(f"a finite set has at least one unit (got {self.total})")

    def follow(self, losses: Sequence[float]) -> Course:
        """Feeds losses in their registered order; what comes after the decision counts for nothing.

        Raises:
            UsageError: A loss lies outside [0, 1], or there are more than the set has units.
        """
        x = checked(losses)
        bars = log_threshold(self.alpha_pass), log_threshold(self.alpha_fail)
        if self.total is None:
            bets = RateBets(self.bound) if self.rate else MeanBets(self.bound)
            seen = follow(x, bets, alpha_pass=self.alpha_pass, alpha_fail=self.alpha_fail)
            count = len(x) if seen.stopped is None else seen.stopped
            wealth = _floats(seen.log_pass[:count]), _floats(seen.log_fail[:count])
            passed = None if seen.stopped is None else seen.passed
            return Course(_floats(x[:count]), *wealth, *bars, passed, exact=False)
        if len(x) > self.total:
            raise UsageError(f"the set has {self.total} units and {len(x)} losses were given")
        drawn = (
            follow_finite((x > 0).tolist(), total=self.total, p0=self.bound, alpha=self.alpha_pass)
            if self.rate
            else follow_finite_mean(x.tolist(), total=self.total, bound=self.bound, alpha=self.alpha_pass)
        )
        return Course(
            _floats(x[: drawn.units]), _floats(drawn.log_pass), (), bars[0], math.inf, drawn.passed, exact=drawn.exact
        )

    def limits(self, course: Course) -> tuple[float, float]:
        """Lower and upper limit of the mean loss, each of confidence 1 - alpha, valid whenever one stops.

        They are what the same bets do not exclude; for a set, the lower one is what was seen, and certain.
        """
        x, alpha = course.losses, self.alpha_pass
        if not x:
            return 0.0, 1.0
        if self.total is not None:
            if self.rate:
                failures = sum(loss > 0 for loss in x)
                most = upper_count([loss > 0 for loss in x], total=self.total, alpha=alpha)
                return failures / self.total, most / self.total
            return math.fsum(x) / self.total, upper_mean(x, total=self.total, alpha=alpha)
        return limits(x, alpha=alpha) if self.rate else _mean_limits(x, alpha)


def _mean_limits(losses: Sequence[float], alpha: float) -> tuple[float, float]:
    """What `MeanBets` do not exclude: their wealth for a PASS grows with the bound, that for a FAIL falls."""
    bar = log_threshold(alpha)
    mean = min(max(math.fsum(losses) / len(losses), _TINY), 1 - _TINY)

    def excluded(m: float, *, by_pass: bool) -> bool:
        seen = follow(losses, MeanBets(m))
        return bool((seen.log_pass if by_pass else seen.log_fail)[-1] >= bar)

    upper = border(mean, 1 - _TINY, lambda m: excluded(m, by_pass=True))
    lower = border(mean, _TINY, lambda m: excluded(m, by_pass=False))
    return (0.0 if lower <= _TINY else lower), (1.0 if upper >= 1 - _TINY else upper)


_TINY = 1e-9


def _floats(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
