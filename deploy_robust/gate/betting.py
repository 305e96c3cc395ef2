"""Lines that are decided by betting, from measurements: strictly in the registered order, up to the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.gate.claims import claim
from deploy_robust.gate.records import FAILURE_RATE, Outcome, Status
from deploy_robust.gate.units import in_order, test_of, units_of

if TYPE_CHECKING:
    from deploy_robust.gate.records import Requirement
    from deploy_robust.gate.registration import Registration
    from deploy_robust.gate.table import Table
    from deploy_robust.gate.units import Unit


def judge_by_betting(
    line: Requirement, level: float | None, table: Table, attacks: tuple[str, ...], registration: Registration | None
) -> Outcome:
    """What a line came to at one epsilon; units beyond the decision count for nothing."""
    if registration is None:
        return Outcome(line, level, Status.INCONCLUSIVE, reason="no test was registered before the first query")
    test = test_of(line, registration)
    units = in_order(units_of(line, level, table, attacks), registration)
    if not units:
        return Outcome(line, level, Status.INCONCLUSIVE, reason="nothing was measured for it")
    course = test.follow([loss for loss, _ in units])
    counted = [unit for _, group in units[: course.units] for unit in group]
    low, high = test.limits(course)
    value = sum(course.losses) / course.units
    if line.statistic != FAILURE_RATE:
        value, low, high = (line.cap * (1 - x) for x in (value, high, low))
    status = {True: Status.PASS, False: Status.FAIL, None: Status.INCONCLUSIVE}[course.passed]
    if status is Status.PASS and len(counted) < line.minimum_pairs:
        status = Status.INCONCLUSIVE
    if status is Status.FAIL and not line.gates:
        status = Status.INCONCLUSIVE
    failed = [unit for unit in counted if unit.loss > 0] if line.statistic == FAILURE_RATE else []
    return Outcome(
        line,
        level,
        status,
        value=value,
        low=low,
        high=high,
        pairs=len(counted),
        scenes=len({unit.scene for unit in counted}),
        worst=max(counted, key=lambda unit: _badness(line, unit)).case,
        reason=_reason(line, status, course.passed, course.units, len(failed)),
        claim=claim(line, level, course, (low, high), registration),
        course=course,
        counterexamples=tuple(unit.case for unit in failed),
        values={unit.case.pair: unit.value for unit in counted if unit.value is not None},
    )


def _reason(line: Requirement, status: Status, passed: bool | None, units: int, failed: int) -> str:
    if status is Status.PASS:
        return ""
    if passed is None:
        return f"it is open after {units} units"
    if passed:
        return f"it holds on {units} units and needs {line.minimum_pairs}"
    if line.statistic == FAILURE_RATE:
        return f"{failed} of {units} units failed"
    return f"the mean over {units} units lies below the bound"


def _badness(line: Requirement, unit: Unit) -> tuple[float, float]:
    """How far a unit is on the bad side; a defect is the furthest."""
    if unit.value is None:
        return 2.0, 0.0
    sides = [
        *([] if line.at_least is None else [line.at_least - unit.value]),
        *([] if line.at_most is None else [unit.value - line.at_most]),
    ]
    return unit.loss, max(sides)
