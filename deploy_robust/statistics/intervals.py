"""Confidence intervals for means over independent scenes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Interval(NamedTuple):
    """A mean and the two ends of its interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Two-sided Student t interval of the mean of independent draws.

    Exact for normal draws, and close for the averages of PSNR differences that a policy bounds (Student 1908). One draw
    has no spread to judge by: its interval is the whole line.

    Args:
        values: Independent, finite draws; at least one.
        confidence: Coverage, in (0, 1).

    Raises:
        ValueError: No values, or a confidence outside (0, 1).
    """
    if not values or not 0 < confidence < 1:
        raise ValueError(f"an interval needs values and a confidence in (0, 1) (got {len(values)}, {confidence})")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    from scipy.stats import t  # a second to import

    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    reach = float(t.ppf((1 + confidence) / 2, n - 1)) * error
    return Interval(mean, mean - reach, mean + reach)
