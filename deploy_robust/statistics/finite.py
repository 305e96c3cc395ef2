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
from deploy_robust.statistics.betting import PASS_RATIOS, PASS_WEIGHTS, log_threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FiniteProgress:
    """Where the test stands.

    Attributes:
        units: Units drawn until it was decided, or all that were given.
        failures: Of them.
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
