"""Bootstrap intervals of means: what a paired difference is known to, without assuming how it is distributed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust import keyed
from deploy_robust.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CACHED = 500
"""Draws up to which the resamples of one number of draws are kept, for many statistics of the same images."""

RESAMPLES = 10_000
"""Resamples of an interval: its ends then scatter by about a fiftieth of its width from seed to seed."""


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Bias-corrected and accelerated (BCa) bootstrap interval of the mean (Efron 1987).

    For paired comparisons the values are the differences of each pair. The resamples depend on their number and the
    seed alone, so that two comparisons on the same images resample the same images.

    Args:
        values: Independent, finite draws; at least one.
        confidence: Coverage, in (0, 1).
        resamples: How many resamples; at least 100.
        seed: Keys the resamples.

    Returns:
        The mean and the interval. One draw has no spread to judge by: its interval is the whole line. Equal draws have
        an interval of no width.

    Raises:
        ValueError: No values, one that is not finite, a confidence outside (0, 1), or too few resamples.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all() or not 0 < confidence < 1 or resamples < 100:
        raise ValueError(
            f"a bootstrap needs finite values, a confidence in (0, 1) and 100 resamples (got {x.size} values, "
            f"{confidence}, {resamples})"
        )
    n, mean = x.size, math.fsum(x) / x.size
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    if (x == x[0]).all():
        return Interval(mean, mean, mean)
    means = _resampled_means(x, resamples, seed)
    low, high = _bca_levels(x, mean, means, confidence)
    ends = np.quantile(means, [low, high])
    return Interval(mean, float(ends[0]), float(ends[1]))


def _resampled_means(x: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean of each resample, (resamples,)."""
    n = x.size
    if n <= _CACHED:
        return _counts(n, resamples, seed) @ x / n
    generator = keyed.generator(seed, "bootstrap", n)
    means = [x[generator.integers(0, n, n)].mean() for _ in range(resamples)]  # all at once would not fit
    return np.array(means)


@lru_cache(maxsize=4)
def _counts(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of n draws occurs in each resample, (resamples, n)."""
    drawn = keyed.generator(seed, "bootstrap", n).integers(0, n, (resamples, n))
    flat = drawn + n * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


def _bca_levels(
    x: NDArray[np.float64], mean: float, means: NDArray[np.float64], confidence: float
) -> tuple[float, float]:
    """The two quantiles of the resampled means between which the interval lies."""
    from scipy.special import ndtr, ndtri

    # A resample that hits the estimate counts half, or a discrete statistic would look biased.
    apart, rounding = means - mean, 1e-12 * float(np.abs(x).max())
    below = np.count_nonzero(apart < -rounding) + 0.5 * np.count_nonzero(np.abs(apart) <= rounding)
    below /= means.size
    bias = ndtri(np.clip(below, 0.5 / means.size, 1 - 0.5 / means.size))
    # Jackknife: leaving x_i out moves the mean by (mean - x_i) / (n - 1), and the acceleration has no unit.
    moved = x - mean
    acceleration = float((moved**3).sum() / (6 * (moved**2).sum() ** 1.5))
    levels = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + ndtri(tail)
        levels.append(float(ndtr(bias + z / (1 - acceleration * z))))
    return levels[0], levels[1]
