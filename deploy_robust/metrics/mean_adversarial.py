"""Mean adversarial performance: one figure for a network under attack (arXiv 2203.16931, eq. 7)."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAPER_LEVELS = (1.0, 2.0, 4.0, 8.0)
"""The paper's epsilons, in steps of 1/255."""


def mean_adversarial(scores: Mapping[float, Sequence[float]], levels: Sequence[float] = PAPER_LEVELS) -> float:
    """``1/|E| sum over E of (mean score under attack at eps)``.

    Every epsilon has the same weight, whatever number of images stands behind it.

    Args:
        scores: By epsilon in steps of 1/255, the metric of each image under attack at that epsilon.
        levels: E, the epsilons that enter, in steps of 1/255.

    Returns:
        The mean, in the metric's unit; inf where a score is.

    Raises:
        UsageError: An epsilon of E has no scores.
    """
    if missing := [f"{level:g}/255" for level in levels if not len(scores.get(level, ()))]:
        raise UsageError(f"mean adversarial performance needs scores at every epsilon; none at {', '.join(missing)}")
    return fmean(fmean(scores[level]) for level in levels)
