"""The use case `check`: attack a deployed engine, measure it, judge it, report."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.app import reopening
from deploy_robust.app.execution import Execution
from deploy_robust.app.networks import SourceRequest
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.planning import planner_of
from deploy_robust.app.registering import continued, register
from deploy_robust.app.run_plan import plan_of
from deploy_robust.app.screen import Screen
from deploy_robust.gate.policy import DEFAULT, load_policy
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.judge import CheckResult
    from deploy_robust.app.networks import EngineRequest
    from deploy_robust.app.recorded import RecordedRequest
    from deploy_robust.app.screen import Standings
    from deploy_robust.gate.policy import Policy


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Everything that a check depends on.

    Attributes:
        engine: The engine under test, or outputs that were recorded of it elsewhere.
        out: Run folder; an interrupted check goes on there.
        source: What attacks are crafted on.
        pairs: What is attacked, or a stored set of what was: then nothing is crafted.
        policy: Name of a shipped policy, a TOML file, or a policy.
        command: Which command asks, for the record and for advice.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        pairs_per_batch: Pairs executed and committed together; None: 1 on a CPU, 8 on a GPU.
        rows: Images attacked and run together at most; None takes all epsilons of a batch's pairs.
        timeout: Seconds that one call of a network may take before it counts as hanging.
        max_minutes: When to stop beginning batches; what is open then makes the verdict INCONCLUSIVE at best.
        downstream: Networks that look at the outputs: shipped names, descriptions or models, one of each task at most.
    """

    engine: EngineRequest | RecordedRequest
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
    downstream: tuple[str, ...] = ()

    def execution(self, policy: Policy) -> Execution:
        """What executes it."""
        return Execution(
            self.engine,
            self.source,
            self.pairs,
            policy.attacks,
            self.seed,
            self.threads,
            policy.places,
            self.rows,
            levels=policy.levels,
            downstream=self.downstream,
            needs=policy.needs,
            scoped=frozenset(policy.scopes),
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

    out_of_time = deadline(request.max_minutes)
    policy = load_policy(request.policy)
    pairs = open_pairs(request.pairs)
    registration = register(policy, pairs, request.seed)
    executor = IsolatedExecutor(request.execution(policy), judged=frozenset({ENGINE}), timeout=request.timeout)
    try:
        facts = executor.start()
        terms, requirements = facts.terms(policy, paired=pairs.paired)
        plan = plan_of(
            request.command,
            policy,
            pairs,
            facts,
            terms,
            seed=request.seed,
            pairs_per_batch=request.pairs_per_batch,
            rows=request.rows,
        )
        if registration is not None:
            plan["registration"] = registration.to_dict()
        with SqliteStore.create_or_resume(request.out, plan, continued=continued) as store:
            if registration is not None:  # it may go on from an earlier one
                registration = Registration.from_dict(store.plan["registration"])
            ids = pairs.ids() if registration is None else registration.order
            planner = planner_of(
                policy,
                (*terms.attacks, *facts.diverging),
                ids,
                requirements,
                plan["batch"]["pairs"],
                registration=registration,
            )
            screen = Screen(planner.size, len(store.finished()), on_progress, on_standing)
            if registration is not None:
                screen.watch = Watch(requirements, terms.attacks, registration)
            note = reopening.to_note(request.engine, request.source, request.pairs, request.timeout, request.out)
            note["downstream"] = reopening.to_files(request.downstream, request.out)
            store.note(reopening.NOTE, note)
            store.note(PLANNED, planner.size)
            store.note(ENDED, False)
            ended = run(planner, executor, store, on_batch=screen.show, keep_going=lambda: not out_of_time())
            store.note(ENDED, ended)
            executor.close()  # reports need no network, and the memory of both together would be the peak
            return judge_and_report(store, policy, request.out)
    finally:
        executor.close()


def deadline(minutes: float | None) -> Callable[[], bool]:
    """Whether that many minutes have passed since this call."""
    end = math.inf if minutes is None else time.monotonic() + minutes * 60
    return lambda: time.monotonic() >= end
