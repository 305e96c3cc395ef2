"""Betting tests of a mean: valid however often one looks, and whenever one stops.

A gambler bets against the claim that the mean loss is too large, another one against the claim that it is small
enough. Neither can gain in expectation where the claim is true, so that a wealth of 1/alpha happens with probability
alpha at most, at any time (Ville 1939; Waudby-Smith and Ramdas, JRSS-B 2024). All wealth is kept in logarithms.

Losses X lie in [0, 1]; small is good. A unit is an independent scene: only ``E[X_i | past]`` matters, but frames of one
clip are not units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

PASS_RATIOS = (0.0, 0.1, 0.25, 0.5, 0.75)
"""Rates below p0 that the bets for a PASS favour, as shares of p0."""

PASS_WEIGHTS = (0.40, 0.20, 0.15, 0.15, 0.10)
"""How the first wealth of 1 is divided among them."""

FAIL_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Rates above p0 that the bets for a FAIL favour, as multiples of p0, all with equal shares."""

FAIL_RATES = (0.5, 0.9)
"""Rates that they favour besides, where they lie above p0."""

_HIGHEST_RATE = 0.999

MEAN_BETS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the wealth that the tests of a bounded mean put at stake."""


class Bets(Protocol):
    """How two gamblers bet: for each unit, the factor by which each part of their wealth grows."""

    def log_pass(self, x: Floats) -> tuple[Floats, Floats]:
        """Logarithms of the factors, (bets, n), and of the shares, (bets,), of the gambler for a PASS."""
        ...

    def log_fail(self, x: Floats) -> tuple[Floats, Floats]:
        """The same of the gambler for a FAIL."""
        ...


@dataclass(frozen=True, slots=True)
class RateBets:
    """Bets on a rate, or on any mean of losses: PASS claims that it is below `p0`.

    Attributes:
        p0: The rate that separates PASS from FAIL, between 0 and 1.

    Raises:
        UsageError: p0 is not between 0 and 1.
    """

    p0: float

    def __post_init__(self) -> None:
        if not 0 < self.p0 < 1:
            raise UsageError(f"the failure rate p0 lies between 0 and 1, like 0.05 (got {self.p0})")

    def log_pass(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Bets`."""
        return self._factors(x, self.p0 * np.array(PASS_RATIOS)), np.log(np.array(PASS_WEIGHTS))

    def log_fail(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Bets`."""
        wanted = {min(ratio * self.p0, _HIGHEST_RATE) for ratio in FAIL_RATIOS} | set(FAIL_RATES)
        rates = np.array(sorted(q for q in wanted if q > self.p0) or [(1 + self.p0) / 2])
        return self._factors(x, rates), np.full(len(rates), -math.log(len(rates)))

    def _factors(self, x: Floats, rates: Floats) -> Floats:
        """The logarithm of L(X; q): for X of 0 and 1 the likelihood ratio of q to p0."""
        slope = (self.p0 - rates) / (self.p0 * (1 - self.p0))
        return _log(1 + slope[:, None] * (self.p0 - x))


@dataclass(frozen=True, slots=True)
class MeanBets:
    """Bets on a bounded mean, adaptive to its variance: PASS claims that ``E[X]`` is below `m`.

    Attributes:
        m: The mean that separates PASS from FAIL, between 0 and 1.

    Raises:
        UsageError: m is not between 0 and 1.
    """

    m: float

    def __post_init__(self) -> None:
        if not 0 < self.m < 1:
            raise UsageError(f"the bound of a mean must lie inside its range (got {self.m} of 0 to 1)")

    def log_pass(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Bets`."""
        return _log(1 + _column(MEAN_BETS) / (1 - self.m) * (self.m - x)), _even(len(MEAN_BETS))

    def log_fail(self, x: Floats) -> tuple[Floats, Floats]:
        """See `Bets`."""
        return _log(1 + _column(MEAN_BETS) / self.m * (x - self.m)), _even(len(MEAN_BETS))


def mean_psnr_bets(at_least: float, cap: float = 40.0) -> MeanBets:
    """Bets on a mean PSNR, through the losses of `psnr_loss`.

    Args:
        at_least: The bound in dB.
        cap: PSNR in dB at which the figures are cut; cutting can only lower the mean.

    Raises:
        UsageError: The bound does not lie between 0 and the cap.
    """
    if not 0 < at_least < cap:
        raise UsageError(f"a bound on a mean PSNR lies between 0 and its cap of {cap:g} dB (got {at_least:g})")
    return MeanBets(1 - at_least / cap)


def psnr_loss(psnr: float, cap: float = 40.0) -> float:
    """``1 - min(PSNR, cap) / cap``: in [0, 1], because outputs and ground truth are cut to [0, 1]."""
    return 1 - min(max(psnr, 0.0), cap) / cap


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a test stands after each unit.

    Attributes:
        log_pass: Natural logarithm of the wealth for a PASS after each unit, (n,).
        log_fail: The same for a FAIL.
        stopped: Units after which the test was decided; None where it is open.
        passed: Whether it was decided for a PASS; meaningless where it is open.
    """

    log_pass: Floats
    log_fail: Floats
    stopped: int | None
    passed: bool


def log_wealth(factors: Floats, shares: Floats) -> Floats:
    """Logarithm of the mixture wealth after each unit.

    Args:
        factors: Logarithms of the factors, (bets, n); -inf for a bet that lost everything.
        shares: Logarithms of the shares, (bets,).

    Returns:
        (n,), never NaN; -inf only where every bet lost everything.
    """
    return np.asarray(np.logaddexp.reduce(np.cumsum(factors, axis=1) + shares[:, None], axis=0))


def follow(losses: ArrayLike, bets: Bets, *, alpha_pass: float = 0.05, alpha_fail: float = 0.05) -> Progress:
    """Feeds losses in their registered order; the first crossing decides, and what comes after it counts for nothing.

    Args:
        losses: X of each unit in [0, 1], in the order that was registered before the first of them was seen.
        bets: `RateBets` or `MeanBets`.
        alpha_pass: Probability with which a bad engine may PASS.
        alpha_fail: Probability with which a good engine may FAIL.

    Raises:
        UsageError: A loss lies outside [0, 1], or an alpha is not between 0 and 1.
    """
    x = checked(losses)
    thresholds = [log_threshold(alpha) for alpha in (alpha_pass, alpha_fail)]
    good, bad = log_wealth(*bets.log_pass(x)), log_wealth(*bets.log_fail(x))
    firsts = [
        int(hits[0]) + 1 if (hits := np.flatnonzero(wealth >= threshold)).size else None
        for wealth, threshold in zip((good, bad), thresholds, strict=True)
    ]
    decided = [first for first in firsts if first is not None]
    stopped = min(decided, default=None)
    return Progress(good, bad, stopped, stopped is not None and firsts[0] == stopped)


def limits(losses: ArrayLike, *, alpha: float = 0.05) -> tuple[float, float]:
    """Anytime-valid lower and upper limit of the mean loss, each of confidence 1 - alpha.

    The upper limit is the largest p0 that a PASS at this point would not exclude, the lower one likewise for a FAIL.
    They hold after any data-dependent stop, which limits of fixed samples (Clopper-Pearson) do not.

    Raises:
        UsageError: A loss lies outside [0, 1], or alpha is not between 0 and 1.
    """
    x = checked(losses)
    threshold = log_threshold(alpha)
    if not x.size:
        return 0.0, 1.0
    values, counts = np.unique(x, return_counts=True)

    def excluded(p0: float, side: str) -> bool:
        bets = RateBets(p0)
        factors, shares = bets.log_pass(values) if side == "pass" else bets.log_fail(values)
        return float(np.logaddexp.reduce(factors @ counts + shares)) >= threshold

    mean = min(max(float(x.mean()), _TINY), 1 - _TINY)
    upper = border(mean, 1 - _TINY, lambda p0: excluded(p0, "pass"))
    lower = _lowest(mean, lambda p0: excluded(p0, "fail"))
    return (0.0 if lower <= _TINY else lower), (1.0 if upper >= 1 - _TINY else upper)


def spent_alpha(alpha: float, attempt: int) -> float:
    """The share of alpha that the attempt-th test of the same claim may use: all of them together use alpha.

    ``alpha 6 / (pi^2 attempt^2)``, for an engine that was repaired and is tested again.

    Raises:
        UsageError: The attempt is not at least 1.
    """
    if attempt < 1:
        raise UsageError(f"attempts are counted from 1 (got {attempt})")
    return alpha * 6 / (math.pi * attempt) ** 2


def log_threshold(alpha: float) -> float:
    """log(1 / alpha).

    Raises:
        UsageError: alpha is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"an error probability lies between 0 and 1, like 0.05 (got {alpha})")
    return -math.log(alpha)


def checked(losses: ArrayLike) -> Floats:
    """The losses as float64, (n,).

    Raises:
        UsageError: One lies outside [0, 1] or is not a number.
    """
    x = np.asarray(losses, dtype=np.float64).reshape(-1)
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise UsageError(f"losses lie in [0, 1] (got {x[~((x >= 0) & (x <= 1))][0]})")
    return x


_TINY = 1e-9


def _lowest(mean: float, excluded: Callable[[float], bool]) -> float:
    """The smallest p0 up to the mean that is not excluded.

    The bets for a FAIL change with p0 where two of their rates meet or one falls behind p0: between such points the
    wealth falls with p0, and at them it may jump.
    """
    breaks = {q / ratio for q in (*FAIL_RATES, _HIGHEST_RATE) for ratio in (1.0, *FAIL_RATIOS)}
    edges = [_TINY, *sorted(b for b in breaks if b < mean), mean]
    for start, end in pairwise(edges):
        if not excluded(start):
            return start
        within = end if end == mean else end * (1 - 1e-12)
        if not excluded(within):
            return border(within, start, excluded)
    return mean


def border(inside: float, outside: float, excluded: Callable[[float], bool]) -> float:
    """The border between an unexcluded point and an excluded one; the far end itself where that is not excluded."""
    if not excluded(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log(factors: Floats) -> Floats:
    """Logarithms of factors that are at least zero up to rounding; zero gives -inf without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(factors, 0.0))


def _column(values: Sequence[float]) -> Floats:
    return np.array(values)[:, None]


def _even(count: int) -> Floats:
    return np.full(count, -math.log(count))
