"""The batches of a check, in the order in which they are measured."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from deploy_robust.gate.planners import Chain, Grid, StopWhen, UntilDecided
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import CLEAN, HIGH, LOW
from deploy_robust.gate.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.gate.planners import Planner
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement, Requirement
    from deploy_robust.gate.registration import Registration


def cases_of_a_pair(policy: Policy, attacks: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """(attack, epsilon in grey levels) of everything that one pair goes through, clean first."""
    return ((CLEAN, 0.0), *((name, level) for name in attacks for level in policy.levels))


def planner_of(
    policy: Policy,
    attacks: Sequence[str],
    ids: Sequence[str],
    requirements: Sequence[Requirement],
    pairs_per_batch: int,
    *,
    registration: Registration | None = None,
) -> Planner:
    """Clean parity first; a broken engine is not attacked for hours. Then every pair under every attack and level.

    Args:
        policy: What is asked for.
        attacks: All judged attacks.
        ids: Pairs in the order in which they are measured.
        requirements: All of them, parity included.
        pairs_per_batch: Pairs that are executed and committed together.
        registration: Of tests by betting, which end the run when they are decided; None without them.
    """
    cases = cases_of_a_pair(policy, attacks)
    # A run that was continued keeps the batches that it had: they end where its earlier registrations ended.
    ends = () if registration is None else tuple(count for count, _ in registration.grown)
    opening = min((policy.parity_pairs, *ends))
    first = tuple(ids[:opening])
    edges = sorted({opening, *(end for end in ends if end > opening), max(len(ids), opening)})
    parity = [r for r in requirements if r.name == "parity"]

    def broken(measurements: Sequence[Measurement]) -> bool:
        return any(_breaks(m, requirement) for m in measurements for requirement in parity)

    planner = StopWhen(
        Chain(
            (
                Grid(first, cases[:1], pairs_per_batch),
                Grid(first, cases[1:], pairs_per_batch),
                *(Grid(tuple(ids[start:end]), cases, pairs_per_batch) for start, end in pairwise(edges)),
            )
        ),
        broken,
    )
    if registration is None:
        return planner
    return UntilDecided(planner, partial(Watch, requirements, tuple(attacks), registration))


def _breaks(m: Measurement, requirement: Requirement) -> bool:
    metrics = {"conversion": "conversion_db", "fidelity": "fidelity_db", "conversion-max-abs": "conversion_max_abs"}
    metric = metrics[requirement.quantity]
    value = m.values.get(metric) if m.role == ENGINE else None
    if value is None:
        return False
    low, high = m.values.get(f"{metric}{LOW}", value), m.values.get(f"{metric}{HIGH}", value)
    too_low = requirement.at_least is not None and high < requirement.at_least
    return too_low or (requirement.at_most is not None and low > requirement.at_most)
