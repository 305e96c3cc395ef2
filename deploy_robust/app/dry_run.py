"""The use case `check --dry-run`: what a check would cost, from one batch that is measured and thrown away."""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import open_pairs
from deploy_robust.app.planning import cases_of_a_pair, pairs_of_attacks, planner_of
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.app.check import CheckRequest
    from deploy_robust.app.execution import Facts
    from deploy_robust.gate.isolation import IsolatedExecutor

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a check would do and cost.

    Attributes:
        pairs: Number of pairs.
        cases: Number of cases, at most.
        attacks: (attack, epsilon in grey levels) that each pair goes through.
        engine: File, precision, device and provider of the engine.
        source: Name and device of the network that attacks are crafted on.
        batch: Pairs in a batch.
        size: (height, width) of the first pair, which was measured.
        load_seconds: Starting and loading the networks, as it was.
        batch_seconds: One batch, as it was.
        seconds: Estimate of the whole check without its reports, if all images are as large as the measured ones.
        memory_bytes: Peak resident memory on the host of both processes together, as it was.
        caps: Reasons known already why the check cannot PASS.
    """

    pairs: int
    cases: int
    attacks: tuple[tuple[str, float], ...]
    engine: str
    source: str
    batch: int
    size: tuple[int, int]
    load_seconds: float
    batch_seconds: float
    seconds: float
    memory_bytes: int
    caps: tuple[str, ...]


def estimate(request: CheckRequest) -> Estimate:
    """Measures one batch of a check and leaves nothing behind.

    Raises:
        DeployRobustError: As `app.check.check`.
    """
    from deploy_robust.app.run_plan import batch_size
    from deploy_robust.gate.isolation import IsolatedExecutor

    policy = load_policy(request.policy)
    pairs = open_pairs(request.pairs)
    executor = IsolatedExecutor(request.execution(policy), judged=frozenset({ENGINE}), timeout=request.timeout)
    try:
        started = time.perf_counter()
        facts = executor.start()
        load_seconds = time.perf_counter() - started
        terms, requirements = facts.terms(policy, paired=pairs.paired)
        attacks = (*terms.attacks, *facts.diverging)
        cases = cases_of_a_pair(policy, attacks)
        only = pairs_of_attacks(policy, attacks, pairs.ids())
        size = batch_size(request.pairs_per_batch, facts)
        group = pairs.ids()[:size]
        batch_seconds = _timed(
            executor, [Case(pair, *which) for pair in group for which in cases if which[0] not in only]
        )
        # Attacks on some pairs are timed on one of theirs, and count as often as they are run.
        some = {name: next(pair for pair in pairs.ids() if pair in chosen) for name, chosen in only.items()}
        some_seconds = {
            name: _timed(executor, [Case(pair, *which) for which in cases if which[0] == name])
            for name, pair in some.items()
        }
    finally:
        executor.close()
    scenes = len(pairs)
    caps = list(terms.caps)
    if scenes < terms.minimum_scenes:
        caps.append(f"{scenes} pairs are there and a PASS needs {terms.minimum_scenes} independent scenes")
    memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Estimate(
        pairs=scenes,
        cases=planner_of(policy, attacks, pairs.ids(), requirements, size).size or 0,
        attacks=cases,
        engine=_engine(facts),
        source="none"
        if facts.source is None
        else f"{facts.source['name']} on {facts.source['capabilities']['device']}",
        batch=size,
        size=pairs[0].size,
        load_seconds=load_seconds,
        batch_seconds=batch_seconds,
        seconds=load_seconds
        + batch_seconds * math.ceil(scenes / size)
        + sum(seconds * len(only[name]) for name, seconds in some_seconds.items()),
        memory_bytes=memory * _MAXRSS_UNIT,
        caps=tuple(caps),
    )


def _timed(executor: IsolatedExecutor[Facts], batch: Sequence[Case]) -> float:
    started = time.perf_counter()
    executor.execute(tuple(batch))
    return time.perf_counter() - started


def _engine(facts: Facts) -> str:
    if facts.engine is None:
        return "none"
    found = facts.engine["capabilities"]
    return f"{facts.engine['file']}, {facts.precision}, on {found['device']} ({found['provider']})"
