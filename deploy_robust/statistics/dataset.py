"""Bootstrap intervals for figures over a whole set, like mIoU and AP, which are no means over images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust import keyed
from deploy_robust.statistics.intervals import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

DRAWS = 1000
"""Resampled sets."""


def dataset_interval(
    figure: Callable[[NDArray[np.float64]], NDArray[Any]],
    scenes: Sequence[str],
    confidence: float = 0.95,
    *,
    draws: int = DRAWS,
) -> Interval:
    """Bias-corrected and accelerated (BCa) bootstrap interval over independent scenes (Efron, JASA 82, 1987).

    Scenes are drawn with replacement, all images of a scene together. mIoU and AP of a draw lie lower than those of the
    set on average, because rare classes and objects drop out of it: plain percentiles would lie too low. Tails of few
    scenes are too short by the ratio of a Student quantile times sqrt(n / (n - 1)) to a normal one, and are taken
    longer by as much (Hesterberg, The American Statistician 69, 2015). Draws are keyed: the same set has the same
    interval always. Draws in which the figure is not defined are left out.

    Args:
        figure: Of weights (sets, images), how often each image counts, the figure of each set, (sets,).
        scenes: The scene of each image.
        confidence: Coverage, in (0, 1).
        draws: How many sets.

    Returns:
        The figure of the set itself, and the interval; the whole line for one scene, or where the figure is not defined
        on half of the draws.

    Raises:
        ValueError: No image, or a confidence outside (0, 1).
    """
    if not scenes or not 0 < confidence < 1:
        raise ValueError(f"an interval needs images and a confidence in (0, 1) (got {len(scenes)}, {confidence})")
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scenes))}
    n = len(places)
    value = float(figure(np.ones((1, len(scenes))))[0])
    if n == 1 or math.isnan(value):
        return Interval(value, -math.inf, math.inf)
    from scipy.special import ndtr, ndtri
    from scipy.stats import t  # a second to import

    of_image = [places[scene] for scene in scenes]
    chosen = keyed.generator(0, "dataset bootstrap", n).multinomial(n, [1 / n] * n, size=draws)
    values = figure(chosen[:, of_image].astype(np.float64))
    values = values[np.isfinite(values)]
    if len(values) < draws / 2:
        return Interval(value, -math.inf, math.inf)
    # A draw that hits the value counts half, or a discrete figure would look biased.
    below = (np.count_nonzero(values < value) + np.count_nonzero(values <= value)) / (2 * len(values))
    bias = float(ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values))))
    without = figure((1.0 - np.eye(n))[:, of_image])
    moved = np.nanmean(without) - without[np.isfinite(without)] if np.isfinite(without).any() else np.zeros(1)
    spread = float((moved**2).sum())
    acceleration = float((moved**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    reach = float(t.ppf((1 + confidence) / 2, n - 1)) * math.sqrt(n / (n - 1))
    low, high = (_level(bias, acceleration, end) for end in (-reach, reach))
    ends = np.quantile(values, [float(ndtr(low)), float(ndtr(high))])
    return Interval(value, min(float(ends[0]), value), max(float(ends[1]), value))


def _level(bias: float, acceleration: float, end: float) -> float:
    """Where an end of the interval lies among the draws, as a normal deviate; past the pole of BCa it is the last."""
    slack = 1 - acceleration * (bias + end)
    return math.copysign(math.inf, end) if slack <= 0 else bias + (bias + end) / slack
