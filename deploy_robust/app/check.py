"""The use case `check`: attack a deployed engine, measure it, judge it, report."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from deploy_robust import __version__
from deploy_robust.app.execution import CONVERSION, Execution
from deploy_robust.app.networks import EngineRequest, SourceRequest
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.errors import PolicyError
from deploy_robust.gate.policy import DEFAULT, load_policy
from deploy_robust.gate.quantities import ENGINE, quantity
from deploy_robust.gate.records import CLEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from deploy_robust.app.execution import Facts
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.judge import Terms
    from deploy_robust.gate.planners import Planner
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement, Requirement, Verdict
    from deploy_robust.report.records import Summary

_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "scikit-image")


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Everything that a check depends on.

    Attributes:
        engine: The engine under test.
        out: Run folder; an interrupted check goes on there.
        source: What attacks are crafted on.
        pairs: What is attacked.
        policy: Name of a shipped policy, or a TOML file.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        pairs_per_batch: Pairs executed and committed together; None: 1 on a CPU, 8 on a GPU.
        timeout: Seconds that one call of a network may take before it counts as hanging.
    """

    engine: EngineRequest
    out: Path
    source: SourceRequest = field(default_factory=SourceRequest)
    pairs: PairsRequest = field(default_factory=PairsRequest)
    policy: str | Path = DEFAULT
    seed: int = 0
    threads: int | None = None
    pairs_per_batch: int | None = None
    timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE, with its outcomes.
        out: The run folder.
        summary: What the reports say, as records.
        reports: Report files by format.
    """

    verdict: Verdict
    summary: Summary
    out: Path
    reports: Mapping[str, Path]


def check(request: CheckRequest, *, on_progress: Callable[[int, int | None], None] | None = None) -> CheckResult:
    """Checks an engine.

    Networks run in a process of their own, so that an engine that hangs or crashes is a finding and not the end.

    Args:
        request: What to check, on what, by which policy.
        on_progress: Called with the number of cases done and the number planned.

    Raises:
        DeployRobustError: Something that the user named cannot be used; the message says what to do.
    """
    from deploy_robust.gate.isolation import IsolatedExecutor
    from deploy_robust.gate.judge import judge
    from deploy_robust.gate.runner import run
    from deploy_robust.gate.store import SqliteStore
    from deploy_robust.report.formats import write_reports
    from deploy_robust.report.summary import summarise

    policy = load_policy(request.policy)
    pairs = open_pairs(request.pairs)
    execution = Execution(request.engine, request.source, request.pairs, policy.attacks, request.seed, request.threads)
    executor = IsolatedExecutor(execution, judged=ENGINE, timeout=request.timeout)
    try:
        facts = executor.start()
        terms, requirements = _terms(policy, pairs, facts)
        plan = _plan(request, policy, pairs, facts, terms)
        planner = _planner(policy, pairs, requirements, plan["batch"]["pairs"])
        done = 0

        def count(batch: Sequence[object], _measurements: Sequence[Measurement]) -> None:
            nonlocal done
            done += len(batch)
            if on_progress is not None:
                on_progress(done, planner.size)

        with SqliteStore.create_or_resume(request.out, plan) as store:
            run(planner, executor, store, on_batch=count)
            verdict = judge(requirements, store.measurements(), terms)
            summary = summarise(store, verdict)
            reports = write_reports(request.out, store, summary)
    finally:
        executor.close()
    return CheckResult(verdict, summary, request.out, reports)


def _terms(policy: Policy, pairs: PairSource, facts: Facts) -> tuple[Terms, tuple[Requirement, ...]]:
    """What the verdict rests on, and the requirements that can be judged at all."""
    from deploy_robust.gate.judge import Terms

    caps = []
    requirements = policy.for_engine(facts.precision, {CONVERSION} if facts.twin else set())
    if not facts.twin:
        caps.append("the engine's parity could not be measured: no source of its own was given (--source)")
        requirements = tuple(r for r in requirements if r.quantity != "transfer-gap")
    if not pairs.paired and (needy := [r.name for r in requirements if quantity(r.quantity).needs_truth]):
        raise PolicyError(
            f"policy {policy.name} asks for {', '.join(dict.fromkeys(needy))}, which needs ground truth, and the "
            "images have none: use --policy unpaired, or one of your own that bounds drift"
        )
    return Terms(tuple(policy.attacks), policy.minimum_scenes, tuple(caps)), requirements


def _plan(request: CheckRequest, policy: Policy, pairs: PairSource, facts: Facts, terms: Terms) -> dict[str, Any]:
    """Everything that the measurements depend on, as plain data; a run folder is resumed for an equal plan only."""
    return {
        "command": "check",
        "engine": dict(facts.engine),
        "source": dict(facts.source),
        "pairs": {"name": pairs.name, "count": len(pairs), "paired": pairs.paired, "identity": dict(pairs.identity)},
        "policy": policy.to_dict(),
        "precision": facts.precision,
        "references": [CONVERSION] if facts.twin else [],
        "seed": request.seed,
        "threads": facts.threads,
        "batch": {"pairs": request.pairs_per_batch or (8 if facts.on_gpu else 1)},
        "terms": {"attacks": list(terms.attacks), "minimum_scenes": terms.minimum_scenes, "caps": list(terms.caps)},
        "notes": list(facts.notes),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {"deploy-robust": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _planner(policy: Policy, pairs: PairSource, requirements: Sequence[Requirement], pairs_per_batch: int) -> Planner:
    """Clean parity first; a broken engine is not attacked for hours. Then every pair under every attack and level."""
    from deploy_robust.gate.planners import Chain, Grid, StopWhen

    ids = tuple(pairs.ids())
    clean = ((CLEAN, 0.0),)
    attacked = tuple((name, level) for name in policy.attacks for level in policy.levels)
    first, rest = ids[: policy.parity_pairs], ids[policy.parity_pairs :]
    parity = [r for r in requirements if r.name == "parity"]

    def broken(measurements: Sequence[Measurement]) -> bool:
        return any(_breaks(m, requirement) for m in measurements for requirement in parity)

    return StopWhen(
        Chain(
            (
                Grid(first, clean, pairs_per_batch),
                Grid(first, attacked, pairs_per_batch),
                Grid(rest, clean + attacked, pairs_per_batch),
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
