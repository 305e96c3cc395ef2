"""The batches of a check, in the order in which they are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.gate.planners import Chain, Grid, StopWhen
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import CLEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.gate.planners import Planner
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement, Requirement


def cases_of_a_pair(policy: Policy, attacks: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """(attack, epsilon in grey levels) of everything that one pair goes through, clean first."""
    return ((CLEAN, 0.0), *((name, level) for name in attacks for level in policy.levels))


def planner_of(
    policy: Policy,
    attacks: Sequence[str],
    ids: Sequence[str],
    requirements: Sequence[Requirement],
    pairs_per_batch: int,
) -> Planner:
    """Clean parity first; a broken engine is not attacked for hours. Then every pair under every attack and level."""
    cases = cases_of_a_pair(policy, attacks)
    first, rest = tuple(ids[: policy.parity_pairs]), tuple(ids[policy.parity_pairs :])
    parity = [r for r in requirements if r.name == "parity"]

    def broken(measurements: Sequence[Measurement]) -> bool:
        return any(_breaks(m, requirement) for m in measurements for requirement in parity)

    return StopWhen(
        Chain(
            (
                Grid(first, cases[:1], pairs_per_batch),
                Grid(first, cases[1:], pairs_per_batch),
                Grid(rest, cases, pairs_per_batch),
            )
        ),
        broken,
    )


def _breaks(m: Measurement, requirement: Requirement) -> bool:
    metric = {"conversion": "conversion_db", "fidelity": "fidelity_db", "conversion-max-abs": "conversion_max_abs"}
    value = m.values.get(metric[requirement.quantity]) if m.role == ENGINE else None
    if value is None:
        return False
    too_low = requirement.at_least is not None and value < requirement.at_least
    return too_low or (requirement.at_most is not None and value > requirement.at_most)
