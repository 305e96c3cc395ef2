"""Tests by betting, and the searches behind them, as a report tells them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import Status
from deploy_robust.gate.units import queries_of
from deploy_robust.report.betting_records import BettingTest, Counterexample, Registered, Search
from deploy_robust.report.cases import reference
from deploy_robust.report.records import Explanation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.records import Case, Measurement, Outcome

_AT = re.compile(r"psnr_at_(\d+)")


def registered(plan: Mapping[str, Any], measurements: Sequence[Measurement]) -> Registered | None:
    """What the run registered, and what it has spent; None where it tests nothing by betting."""
    facts = plan.get("registration")
    if facts is None:
        return None
    attacked = {m.case.pair for m in measurements if m.case.attacked}
    return Registered(
        facts["population"],
        facts["source"],
        len(facts["order"]),
        facts["suite"],
        facts["attempt"],
        facts["digest"],
        tuple((int(count), str(digest)) for count, digest in facts["grown"]),
        len(attacked),
        queries_of(measurements),
    )


def betting_tests(outcomes: Sequence[Outcome], measurements: Sequence[Measurement]) -> tuple[BettingTest, ...]:
    """Every line that was decided by betting, or is open, in the order of the policy."""
    seen: dict[Case, list[Measurement]] = {}
    for m in measurements:
        if m.role == ENGINE:
            seen.setdefault(m.case, []).append(m)
    return tuple(
        BettingTest(
            outcome.requirement.name,
            outcome.level,
            outcome.claim,
            course.units,
            course.losses,
            course.exact,
            tuple(_decimal(value) for value in course.log_pass),
            tuple(_decimal(value) for value in course.log_fail),
            course.bar_pass / math.log(10),
            _decimal(course.bar_fail),
            tuple(_counterexample(case, outcome, seen.get(case, [])) for case in outcome.counterexamples),
        )
        for outcome in outcomes
        if (course := outcome.course) is not None
    )


def _counterexample(case: Case, outcome: Outcome, found: Sequence[Measurement]) -> Counterexample:
    defect = next((m for m in found if m.defect is not None), None)
    image = next((m.input_image for m in found if m.input_image), "")
    kind = "" if defect is None or defect.defect is None else defect.defect.kind
    return Counterexample(reference(case), image, None if kind else outcome.values.get(case.pair), kind)


def searches(measurements: Sequence[Measurement]) -> Iterator[Search]:
    """Best PSNR over queries, for every attack by queries and epsilon that noted it."""
    found: dict[tuple[str, float], dict[str, dict[int, float]]] = {}
    for m in measurements:
        marks = {int(match[1]): value for name, value in m.values.items() if (match := _AT.fullmatch(name))}
        if m.role == ENGINE and marks:
            found.setdefault((m.case.attack, m.case.level), {})[m.case.pair] = marks
    for (attack, level), units in found.items():
        queries = sorted(set.intersection(*(set(marks) for marks in units.values())))
        if not queries:
            continue
        columns = [[marks[count] for marks in units.values()] for count in queries]
        yield Search(
            attack,
            level,
            tuple(queries),
            tuple(math.fsum(column) / len(column) for column in columns),
            tuple(min(column) for column in columns),
            {pair: tuple(marks[count] for count in queries) for pair, marks in units.items()},
        )


def explain_betting(outcome: Outcome, plan: Mapping[str, Any], engine: str) -> Explanation:
    """Why a line by betting failed or is open, and what to run next.

    Args:
        outcome: What it came to.
        plan: The run's plan.
        engine: The engine's file, quoted for a shell.
    """
    if outcome.status is Status.FAIL:
        text = "The attacks were found on this engine itself, so that nothing is said of its source."
        if "adversarial" in plan:
            text = "The violations are images of the stored set, which may have been crafted on another network."
        command, aim = "deploy-robust train --adversarial", "harden the network itself"
        return Explanation("violations", outcome.reason, (text,), command, aim)
    asked = str(plan.get("command", "check"))
    units = 0 if outcome.course is None else outcome.course.units
    most = len((plan.get("registration") or {}).get("order", ()))
    if units < most:
        text = f"The run ended after {units} of {most} registered units, before this line was decided."
        return Explanation("evidence", f"open after {units} of {most} units", (text,))
    text = f"{units} units did not decide it. Fresh units continue the same test; nothing starts anew."
    more = f"deploy-robust {asked} --engine {engine} --{'units' if asked == 'verify' else 'limit'} {2 * most}"
    return Explanation("evidence", f"open after all {units} units", (text,), more, "continue the same test")


def _decimal(log: float) -> float | None:
    return log / math.log(10) if math.isfinite(log) else None
