"""The use case `plan`: what a `verify` will need, computed exactly; its time on an engine, measured on one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import SCENES
from deploy_robust.app.verify import request_of
from deploy_robust.errors import UsageError
from deploy_robust.statistics.betting import spent_alpha
from deploy_robust.statistics.planning import characteristics, pass_boundary

if TYPE_CHECKING:
    from deploy_robust.app.check import CheckRequest
    from deploy_robust.app.verify import Claim

_BOUNDARIES = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What a test of one claim comes to if a unit fails with a certain probability.

    Attributes:
        p0: The failure rate that separates PASS from FAIL.
        alpha: Probability of a wrong PASS that this attempt may use.
        expect: The failure rate that is expected.
        most: Units at most.
        passes: Probability of a PASS, exact; of each epsilon, where there are several.
        fails: Probability of a FAIL.
        open: Probability that it is still open then.
        mean_units: Expected number of units, an independent scene each.
        median_units: Units that suffice half of the time.
        units_90: Units that suffice nine times in ten.
        queries_per_unit: Queries of the searches on one unit, over all epsilons.
        boundary: Units after which 0, 1, 2, ... failures are few enough for a PASS; None beyond 100,000.
        engine: The engine that was measured; empty where none was.
        load_seconds: Starting and loading it, as it was.
        unit_seconds: One unit on it, as it was; None where none was measured.
    """

    p0: float
    alpha: float
    expect: float
    most: int
    passes: float
    fails: float
    open: float
    mean_units: float
    median_units: int
    units_90: int
    queries_per_unit: int
    boundary: tuple[int | None, ...]
    engine: str = ""
    load_seconds: float = 0.0
    unit_seconds: float | None = None


def plan(claim: Claim, expect: float, *, most: int | None = None, request: CheckRequest | None = None) -> Plan:
    """Plans a test.

    Args:
        claim: What is to be shown.
        expect: The failure rate that is expected, in [0, 1].
        most: Units at most; None takes what `verify` does.
        request: The engine, whose time is measured on one batch; None measures none.

    Raises:
        DeployRobustError: A number is out of range, or the engine does not open.
    """
    from deploy_robust.app.dry_run import estimate

    policy = claim.policy()
    largest = claim.units() if most is None else most
    alpha = spent_alpha(claim.alpha, claim.attempt) if claim.attempt else claim.alpha
    found = characteristics(
        expect, p0=claim.p0, largest=largest, alpha_pass=alpha, alpha_fail=alpha / len(claim.levels)
    )
    measured = None
    if request is not None:
        if request.pairs.what != SCENES:
            raise UsageError(
                f"a plan is for fresh {SCENES}: a finite set needs as many units as it has images, at most; "
                "`deploy-robust check --dry-run` says what they cost"
            )
        measured = estimate(request_of(claim, request))
    return Plan(
        claim.p0,
        alpha,
        expect,
        largest,
        found.passes,
        found.fails,
        found.open,
        found.mean_units,
        found.quantile(0.5),
        found.quantile(0.9),
        len(claim.levels) * sum(int(settings.get("queries", 0)) for settings in policy.attacks.values()),
        tuple(pass_boundary(k, p0=claim.p0, alpha=alpha) for k in range(_BOUNDARIES)),
        "" if measured is None else measured.engine,
        0.0 if measured is None else measured.load_seconds,
        None if measured is None else measured.batch_seconds / measured.batch,
    )
