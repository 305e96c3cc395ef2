"""The batches of a check, in the order in which they are measured."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from deploy_robust.app.terms import adaptive
from deploy_robust.gate.planners import Chain, Grid, StopWhen, UntilDecided
from deploy_robust.gate.policy import Scope
from deploy_robust.gate.quantities import DIVERGENCE, ENGINE, INDEPENDENT_ROWS
from deploy_robust.gate.records import CLEAN, HIGH, LOW, ROWS
from deploy_robust.gate.row_probe import PROBED_PAIRS
from deploy_robust.gate.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.planners import Planner
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement, Requirement
    from deploy_robust.gate.registration import Registration


def cases_of_a_pair(
    policy: Policy, attacks: Sequence[str], known_as: Mapping[str, str] | None = None
) -> tuple[tuple[str, float], ...]:
    """(attack, epsilon in grey levels) of everything that a pair goes through at most, clean first.

    Args:
        policy: What is asked for.
        attacks: All attacks, in order.
        known_as: Attack to its name in the policy, where it is neither that nor its adaptive one.
    """
    at = {name: scope.levels or policy.levels for name, scope in _scopes(policy, attacks, known_as)}
    return ((CLEAN, 0.0), *((name, level) for name in attacks for level in policy.levels if level in at[name]))


def pairs_of_attacks(
    policy: Policy, attacks: Sequence[str], ids: Sequence[str], known_as: Mapping[str, str] | None = None
) -> dict[str, frozenset[str]]:
    """Attack to the pairs that it is run on, for attacks that are not run on all of them."""
    scopes = _scopes(policy, attacks, known_as)
    return {name: frozenset(scope.chosen(ids)) for name, scope in scopes if scope.pairs is not None}


def _scopes(policy: Policy, attacks: Sequence[str], known_as: Mapping[str, str] | None) -> Iterator[tuple[str, Scope]]:
    """Where each attack is run; one on the engine's own graph follows the attack that it is made of."""
    everywhere = Scope()
    scopes = {adaptive(name): scope for name, scope in policy.scopes.items()} | dict(policy.scopes)
    for name in attacks:
        yield name, scopes.get((known_as or {}).get(name, name), everywhere)


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
        attacks: All attacks that are run.
        ids: Pairs in the order in which they are measured.
        requirements: All of them, parity included.
        pairs_per_batch: Pairs that are executed and committed together.
        registration: Of tests by betting, which end the run when they are decided; None without them.
    """
    cases = cases_of_a_pair(policy, attacks)
    only = pairs_of_attacks(policy, attacks, ids)
    if any(line.quantity == INDEPENDENT_ROWS for line in requirements):
        cases = (cases[0], (ROWS, 0.0), *cases[1:])
        only[ROWS] = frozenset(ids[:PROBED_PAIRS])
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
                Grid(first, cases[1:], pairs_per_batch, only),
                *(Grid(tuple(ids[start:end]), cases, pairs_per_batch, only) for start, end in pairwise(edges)),
            )
        ),
        broken,
    )
    if registration is None:
        return planner
    judged = tuple(name for name in attacks if name not in DIVERGENCE)
    return UntilDecided(planner, partial(Watch, requirements, judged, registration))


def _breaks(m: Measurement, requirement: Requirement) -> bool:
    metrics = {"conversion": "conversion_db", "fidelity": "fidelity_db", "conversion-max-abs": "conversion_max_abs"}
    metric = metrics[requirement.quantity]
    value = m.values.get(metric) if m.role == ENGINE and m.case.attack == CLEAN else None
    if value is None:
        return False
    low, high = m.values.get(f"{metric}{LOW}", value), m.values.get(f"{metric}{HIGH}", value)
    too_low = requirement.at_least is not None and high < requirement.at_least
    return too_low or (requirement.at_most is not None and low > requirement.at_most)
