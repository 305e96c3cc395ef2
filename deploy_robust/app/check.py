"""The use case `check`: attack a deployed engine, measure it, judge it, report."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from deploy_robust import __version__
from deploy_robust.app import reopening
from deploy_robust.app.execution import Execution
from deploy_robust.app.networks import EngineRequest, SourceRequest
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.planning import planner_of
from deploy_robust.app.registering import continued, register
from deploy_robust.app.screen import Screen
from deploy_robust.gate.policy import DEFAULT, load_policy
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.execution import Facts
    from deploy_robust.app.judge import CheckResult
    from deploy_robust.app.screen import Standings
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.judge import Terms
    from deploy_robust.gate.policy import Policy

_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "openvino", "scikit-image")


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Everything that a check depends on.

    Attributes:
        engine: The engine under test.
        out: Run folder; an interrupted check goes on there.
        source: What attacks are crafted on.
        pairs: What is attacked.
        policy: Name of a shipped policy, a TOML file, or a policy.
        command: Which command asks, for the record and for advice.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        pairs_per_batch: Pairs executed and committed together; None: 1 on a CPU, 8 on a GPU.
        rows: Images attacked and run together at most; None takes all epsilons of a batch's pairs.
        timeout: Seconds that one call of a network may take before it counts as hanging.
        max_minutes: When to stop beginning batches; what is open then makes the verdict INCONCLUSIVE at best.
    """

    engine: EngineRequest
    out: Path
    source: SourceRequest = field(default_factory=SourceRequest)
    pairs: PairsRequest = field(default_factory=PairsRequest)
    policy: str | Path | Policy = DEFAULT
    command: str = "check"
    seed: int = 0
    threads: int | None = None
    pairs_per_batch: int | None = None
    rows: int | None = None
    timeout: float = 300.0
    max_minutes: float | None = None

    def execution(self, policy: Policy) -> Execution:
        """What executes it."""
        return Execution(
            self.engine, self.source, self.pairs, policy.attacks, self.seed, self.threads, policy.places, self.rows
        )


def check(
    request: CheckRequest,
    *,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_standing: Callable[[Standings], None] | None = None,
) -> CheckResult:
    """Checks an engine.

    Networks run in a process of their own, so that an engine that hangs or crashes is a finding and not the end.

    Args:
        request: What to check, on what, by which policy.
        on_progress: Called with the number of cases done and the number planned.
        on_standing: Called with where the tests by betting stand, where the policy has any.

    Raises:
        DeployRobustError: Something that the user named cannot be used; the message says what to do.
    """
    from deploy_robust.app.judge import ENDED, PLANNED, judge_and_report
    from deploy_robust.gate.isolation import IsolatedExecutor
    from deploy_robust.gate.runner import run
    from deploy_robust.gate.store import SqliteStore

    out_of_time = _deadline(request.max_minutes)
    policy = load_policy(request.policy)
    pairs = open_pairs(request.pairs)
    registration = register(policy, pairs, request.seed)
    executor = IsolatedExecutor(request.execution(policy), judged=ENGINE, timeout=request.timeout)
    try:
        facts = executor.start()
        terms, requirements = facts.terms(policy, paired=pairs.paired)
        plan = _plan(request, policy, pairs, facts, terms)
        if registration is not None:
            plan["registration"] = registration.to_dict()
        with SqliteStore.create_or_resume(request.out, plan, continued=continued) as store:
            if registration is not None:  # it may go on from an earlier one
                registration = Registration.from_dict(store.plan["registration"])
            ids = pairs.ids() if registration is None else registration.order
            planner = planner_of(
                policy, terms.attacks, ids, requirements, plan["batch"]["pairs"], registration=registration
            )
            screen = Screen(planner.size, len(store.finished()), on_progress, on_standing)
            if registration is not None:
                screen.watch = Watch(requirements, terms.attacks, registration)
            note = reopening.to_note(request.engine, request.source, request.pairs, request.timeout, request.out)
            store.note(reopening.NOTE, note)
            store.note(PLANNED, planner.size)
            store.note(ENDED, False)
            ended = run(planner, executor, store, on_batch=screen.show, keep_going=lambda: not out_of_time())
            store.note(ENDED, ended)
            executor.close()  # reports need no network, and the memory of both together would be the peak
            return judge_and_report(store, policy, request.out)
    finally:
        executor.close()


def _deadline(minutes: float | None) -> Callable[[], bool]:
    """Whether that many minutes have passed since this call."""
    end = math.inf if minutes is None else time.monotonic() + minutes * 60
    return lambda: time.monotonic() >= end


def _plan(request: CheckRequest, policy: Policy, pairs: PairSource, facts: Facts, terms: Terms) -> dict[str, Any]:
    """Everything that the measurements depend on, as plain data; a run folder is resumed for an equal plan only."""
    return {
        "command": request.command,
        "engine": dict(facts.engine),
        "source": dict(facts.source),
        "pairs": {"name": pairs.name, "count": len(pairs), "paired": pairs.paired, "identity": dict(pairs.identity)},
        "policy": policy.to_dict(),
        "precision": facts.precision,
        "references": list(facts.references),
        "adapted": list(facts.adapted),
        "literal": None if facts.literal is None else dict(facts.literal),
        "seed": request.seed,
        "threads": facts.threads,
        "batch": {"pairs": pairs_per_batch(request, facts), "rows": request.rows},
        "terms": {"attacks": list(terms.attacks), "minimum_scenes": terms.minimum_scenes, "caps": list(terms.caps)},
        "notes": list(facts.notes),
        "versions": versions(),
    }


def pairs_per_batch(request: CheckRequest, facts: Facts) -> int:
    """Pairs executed and committed together: as asked for, or what suits the device."""
    return request.pairs_per_batch or (8 if facts.on_gpu else 1)


def versions() -> dict[str, str]:
    """What the measurements may depend on, by name."""
    found = {"deploy-robust": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
