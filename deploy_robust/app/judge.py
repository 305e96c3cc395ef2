"""The use case `judge`: a verdict from what a run has stored, without running anything.

Needs neither torch nor a runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.run_plan import require_judged
from deploy_robust.app.terms import judged_attacks, terms_of
from deploy_robust.boundary import MalformedError
from deploy_robust.errors import PolicyError
from deploy_robust.gate.evidence import PICTURES
from deploy_robust.gate.judge import judge
from deploy_robust.gate.policy import Policy, load_policy
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.run_spec import VERDICT_NOTE
from deploy_robust.gate.store import SqliteStore
from deploy_robust.report.counterexamples import write_counterexamples
from deploy_robust.report.formats import write_reports
from deploy_robust.report.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deploy_robust.gate.records import Measurement, Verdict
    from deploy_robust.report.records import Summary

ENDED, PLANNED, VERDICT = "ended", "planned", "verdict"
"""Keys of what a check notes beside its measurements: whether the plan came to its end, its size, what it came to."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE, with its outcomes.
        summary: What the reports say, as records.
        out: Where the reports lie.
        reports: Report files by format.
    """

    verdict: Verdict
    summary: Summary
    out: Path
    reports: Mapping[str, Path]


def judge_again(folder: Path, policy: str | Path, out: Path | None = None) -> CheckResult:
    """Judges a stored run by a policy and writes the reports anew.

    Args:
        folder: The run folder.
        policy: Name of a shipped policy, or a TOML file.
        out: Where the reports go; None takes the run folder, which then remembers the new verdict.

    Raises:
        RunError: There is no run, or another process works on it.
        PolicyError: The policy is malformed, or asks for what the run did not measure.
    """
    wanted = load_policy(policy)
    with SqliteStore.reopen(folder) if out is None else SqliteStore.read(folder) as store:
        require_judged(store.spec, folder)
        _check_measured(wanted, policy_of(store), folder)
        return judge_and_report(store, wanted, folder if out is None else out, remember=out is None)


def judge_and_report(store: SqliteStore, policy: Policy, out: Path, *, remember: bool = True) -> CheckResult:
    """Judges what a store holds and writes the reports.

    Args:
        store: A finished or unfinished run.
        policy: What is asked for; all of it was measured.
        out: Folder for the reports.
        remember: Note the verdict in the store, for lists of runs.
    """
    verdict, summary, run = judge_store(store, policy)
    if remember:
        store.note(VERDICT, {"status": verdict.status.value, "sentence": verdict.sentence, "policy": policy.to_dict()})
    reports = write_reports(out, run, summary)
    return CheckResult(verdict, summary, out, reports | write_counterexamples(out, run, summary))


def judge_store(store: SqliteStore, policy: Policy) -> tuple[Verdict, Summary, StoredRun]:
    """Judges what a store holds: an unfinished run cannot PASS, and what it has shown to FAIL stays a FAIL."""
    plan = store.spec
    terms, requirements = terms_of(
        policy,
        precision=plan["precision"],
        references=plan["references"],
        paired=plan["pairs"]["paired"],
        adapted=plan.get("adapted", ()),
        registration=registration_of(store),
        measured=(*plan.get("downstream", ()), *plan.get("metrics", ())),
        access=plan["terms"].get("access"),
        asked="outputs" not in (plan["engine"] or {}),
    )
    if not store.noted(ENDED, bool):
        planned = store.noted(PLANNED, int | None)
        of = "" if planned is None else f" of {planned}"
        terms = replace(terms, caps=(*terms.caps, f"{store.cases}{of} cases are finished: repeat the check to go on"))
    verdict = judge(requirements, store.measurements(), terms)
    run = StoredRun(store, policy)
    return verdict, summarise(run, verdict), run


def policy_of(store: SqliteStore, last: bool = False) -> Policy:
    """The policy that a run was made for; with `last`, the one that judged it last, if any did.

    Raises:
        RunError: The run does not hold one that can be used.
    """
    noted = store.noted(VERDICT, VERDICT_NOTE) if last else None
    try:
        return Policy.from_dict(store.spec["policy"] if noted is None else noted["policy"])
    except MalformedError as error:
        raise store.damaged(error) from error


def registration_of(store: SqliteStore) -> Registration | None:
    """What a run has registered for lines that are decided by betting.

    Raises:
        RunError: The run does not hold one that can be used.
    """
    try:
        return Registration.from_dict(store.spec["registration"]) if "registration" in store.spec else None
    except MalformedError as error:
        raise store.damaged(error) from error


class StoredRun:
    """A run as reports read it: under the policy that judges it, and without the images that were pruned.

    Attributes:
        plan: The run's plan, with that policy.
    """

    def __init__(self, store: SqliteStore, policy: Policy) -> None:
        self._store = store
        self._held = set(store.image_names())
        attacks = judged_attacks(policy, store.spec.get("adapted", ()))
        terms = {**store.spec["terms"], "attacks": list(attacks), "minimum_scenes": policy.minimum_scenes}
        self.plan: dict[str, Any] = {**store.spec, "policy": policy.to_dict(), "terms": terms}

    def measurements(self, batch: int | None = None) -> Iterator[Measurement]:
        """All measurements, in the order of execution."""
        for m in self._store.measurements(batch):
            pictures = {name for each in m.evidence.values() for name in map(each.get, PICTURES) if name}
            if {m.input_image, m.output_image, *pictures} - self._held:
                m = replace(
                    m,
                    input_image=self._if_held(m.input_image),
                    output_image=self._if_held(m.output_image),
                    evidence={task: self._with_held(each) for task, each in m.evidence.items()},
                )
            yield m

    def _with_held(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """Evidence without the pictures that were pruned."""
        return {key: value for key, value in evidence.items() if key not in PICTURES or value in self._held}

    def png(self, sha256: str) -> bytes:
        """An image by its SHA-256, as the bytes of a PNG file."""
        return self._store.png(sha256)

    def _if_held(self, sha256: str) -> str:
        return sha256 if sha256 in self._held else ""


def _check_measured(wanted: Policy, measured: Policy, folder: Path) -> None:
    """A policy may ask for less than a run has measured, and for nothing else."""
    missing = [f"epsilon {level:g}" for level in wanted.levels if level not in measured.levels]
    for name, settings in wanted.attacks.items():
        if name not in measured.attacks:
            missing.append(f"attack {name}")
        elif dict(settings) != dict(measured.attacks[name]):
            missing.append(
                f"attack {name} with {_settings(settings)} (it ran with {_settings(measured.attacks[name])})"
            )
        elif wanted.scopes.get(name) != measured.scopes.get(name):
            missing.append(f"attack {name} on other pairs or epsilons than it was run on")
    lines = [line for line in wanted.requirements if line.by_betting]
    if lines and (wanted.attacks.keys() != measured.attacks.keys() or wanted.attempt != measured.attempt):
        missing.append("lines by betting over another suite or attempt than was registered")
    missing += [
        f"{line.name} as it stands: a line by betting is registered before the first query"
        for line in lines
        if line not in measured.requirements
    ]
    if missing:
        raise PolicyError(
            f"policy {wanted.name} asks for what the run in {folder} did not measure: {'; '.join(missing)}: "
            "check the engine with that policy into a new run folder"
        )


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in settings.items()) or "its own settings"
