"""The use case `compare`: engines against each other, clean and under attacks from several sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.check import deadline
from deploy_robust.app.comparing.execution import CompareExecution
from deploy_robust.app.comparing.judging import judge_engines
from deploy_robust.app.comparing.rebuilds import built_again
from deploy_robust.app.comparing.requests import GROUPS, LITERAL, OWN, SHIPPED, CompareRequest, NamedEngine
from deploy_robust.app.pairs import open_pairs
from deploy_robust.app.planning import cases_of_a_pair, pairs_of_attacks
from deploy_robust.app.run_plan import COMPARING, versions
from deploy_robust.app.screen import Screen
from deploy_robust.errors import PolicyError
from deploy_robust.gate.planners import Grid
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.records import ROWS
from deploy_robust.gate.row_probe import PROBED_PAIRS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from deploy_robust.app.comparing.execution import ComparedFacts
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.store import SqliteStore
    from deploy_robust.report.comparison.records import Comparison

__all__ = ["GROUPS", "LITERAL", "OWN", "SHIPPED", "CompareRequest", "Compared", "NamedEngine", "compare"]

BUILDS = "builds"
"""Folder of the run in which engines are built again."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to.

    Attributes:
        comparison: What the reports say, as records.
        out: The run folder.
        reports: Report files by format.
    """

    comparison: Comparison
    out: Path
    reports: Mapping[str, Path]


def compare(
    request: CompareRequest,
    *,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Compared:
    """Compares engines with each other and with what they were made from.

    It is a run like that of a check, in a process of its own, with the same attacks and draws; every engine sees the
    same images. The reports never show a figure of an engine under attack as one that counts where its parity is
    broken.

    Args:
        request: What to compare, on what.
        on_progress: Called with the number of cases done and the number planned.
        on_step: Told in a few words what is being done before the run begins.

    Raises:
        DeployRobustError: Something that the user named cannot be used; the message says what to do.
    """
    from deploy_robust.app.judge import ENDED, PLANNED
    from deploy_robust.gate.isolation import IsolatedExecutor
    from deploy_robust.gate.runner import run
    from deploy_robust.gate.store import SqliteStore
    from deploy_robust.gate.survivors import Surviving

    out_of_time = deadline(request.max_minutes)
    policy = load_policy(request.policy)
    if any(line.by_betting for line in policy.requirements):
        raise PolicyError(
            f"policy {policy.name} has lines by betting, which test one engine: use `deploy-robust verify`"
        )
    pairs = open_pairs(request.pairs)
    engines = built_again(request.engines, request.rebuild, request.out / BUILDS, on_step)
    on_step("opening the networks")
    execution = CompareExecution(
        engines,
        request.groups,
        request.sources,
        request.device,
        request.pairs,
        policy.attacks,
        request.seed,
        request.threads,
        policy.places,
        request.rows,
    )
    judged = frozenset(engine.name for engine in engines)

    def isolated(without: frozenset[str]) -> IsolatedExecutor[ComparedFacts]:
        return IsolatedExecutor(replace(execution, without=without), judged=judged - without, timeout=request.timeout)

    everyone = isolated(frozenset())
    try:
        facts = everyone.start()
        plan = _plan(request, policy, pairs, facts)
        with SqliteStore.create_or_resume(request.out, plan) as store:
            known_as = {column["name"]: column["attack"] for column in facts.columns}
            clean, *attacked = cases_of_a_pair(policy, tuple(known_as), known_as)
            only = pairs_of_attacks(policy, tuple(known_as), pairs.ids(), known_as)
            only[ROWS] = frozenset(pairs.ids()[:PROBED_PAIRS])
            planner = Grid(tuple(pairs.ids()), (clean, (ROWS, 0.0), *attacked), plan["batch"]["pairs"], only)
            screen = Screen(planner.size, len(store.finished()), on_progress, None)
            store.note(PLANNED, planner.size)
            store.note(ENDED, False)
            executor = Surviving(everyone, judged, isolated)
            ended = run(planner, executor, store, on_batch=screen.show, keep_going=lambda: not out_of_time())
            store.note(ENDED, ended)
            everyone.close()  # reports need no network, and the memory of both together would be the peak
            return _report(store, policy, request.out, max_gap=request.max_gap)
    finally:
        everyone.close()


def _plan(request: CompareRequest, policy: Policy, pairs: PairSource, facts: ComparedFacts) -> dict[str, Any]:
    """A run folder is resumed for an equal plan only."""
    return {
        "command": COMPARING,
        "engines": facts.engines,
        "sources": facts.sources,
        "columns": facts.columns,
        "pairs": {"name": pairs.name, "count": len(pairs), "paired": pairs.paired, "identity": dict(pairs.identity)},
        "policy": policy.to_dict(),
        "seed": request.seed,
        "threads": facts.threads,
        "batch": {"pairs": request.pairs_per_batch or (8 if facts.on_gpu else 1), "rows": request.rows},
        "notes": list(facts.notes),
        "versions": versions(),
    }


def _report(store: SqliteStore, policy: Policy, out: Path, *, max_gap: float | None) -> Compared:
    from deploy_robust.app.judge import ENDED, PLANNED
    from deploy_robust.report.comparison.formats import write_comparison
    from deploy_robust.report.comparison.summary import summarise

    measurements = list(store.measurements())
    complete = bool(store.noted(ENDED, bool))
    unfinished = "" if complete else f"{store.cases} of {store.noted(PLANNED, int | None)} cases are finished"
    verdicts = judge_engines(store.plan, measurements, policy, unfinished=unfinished)
    comparison = summarise(store.plan, measurements, verdicts, complete=complete, max_gap=max_gap)
    return Compared(comparison, out, write_comparison(out, comparison))
