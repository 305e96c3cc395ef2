"""Follows the tests by betting of a run while it goes on: for the planner, which stops early, and for the screen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.gate.records import DATASET, FAILURE_RATE
from deploy_robust.gate.table import Table
from deploy_robust.gate.units import Unit, in_order, lines_of, queries_of, test_of, units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.gate.records import Measurement, Requirement
    from deploy_robust.gate.registration import Registration
    from deploy_robust.statistics.course import Course


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one test stands.

    Attributes:
        name: The line.
        level: Epsilon in grey levels; None for clean quantities.
        units: Units that count so far.
        most: Units at most.
        log_pass: Natural logarithm of the wealth for a PASS; 0 before the first unit.
        log_fail: The same for a FAIL; None for a set, which does not bet on it.
        bar: The logarithm that decides for a PASS.
        low: Lower limit of the failure rate, or of the mean in its own unit.
        high: Upper limit.
        passed: The decision; None while it is open.
    """

    name: str
    level: float | None
    units: int
    most: int
    log_pass: float
    log_fail: float | None
    bar: float
    low: float
    high: float
    passed: bool | None


class Watch:
    """All tests of a run, fed batch by batch.

    It remembers nothing that is not measured: fed with the stored batches of an interrupted run it holds the same
    wealth again.

    Attributes:
        queries: Queries that searches have spent so far.
    """

    def __init__(
        self, requirements: Sequence[Requirement], attacks: tuple[str, ...], registration: Registration
    ) -> None:
        self._lines = lines_of(requirements)
        self._attacks = attacks
        self._registration = registration
        self._measured: dict[str, list[Measurement]] = defaultdict(list)
        self._units: list[dict[str, Unit]] = [{} for _ in self._lines]
        # A mean with an interval for fixed samples would be spoilt by a stop that depends on the data.
        fixed = ("mean", DATASET)
        self._stops = all(
            line.by_betting or line.statistic not in fixed or line.name == "parity" for line in requirements
        )
        self.queries = 0

    def saw(self, measurements: Sequence[Measurement]) -> bool:
        """Takes in a batch, and says whether nothing more needs to be measured.

        That is so when a line has failed or all have passed, unless the policy bounds something else in the mean.
        """
        self.queries += queries_of(measurements)
        for m in measurements:
            self._measured[m.case.pair].append(m)
        for pair in dict.fromkeys(m.case.pair for m in measurements):
            table = Table(self._measured[pair])
            for (line, level), units in zip(self._lines, self._units, strict=True):
                units |= units_of(line, level, table, self._attacks)
        decisions = [
            (line.gates, course.passed) for (line, _), course in zip(self._lines, self._courses(), strict=True)
        ]
        failed = any(gates and passed is False for gates, passed in decisions)
        return self._stops and (failed or all(passed is not None for _, passed in decisions))

    def standings(self) -> tuple[Standing, ...]:
        """Where every test stands."""
        return tuple(
            self._standing(line, level, course)
            for (line, level), course in zip(self._lines, self._courses(), strict=True)
        )

    def _courses(self) -> list[Course]:
        return [
            test_of(line, self._registration).follow([loss for loss, _ in in_order(units, self._registration)])
            for (line, _), units in zip(self._lines, self._units, strict=True)
        ]

    def _standing(self, line: Requirement, level: float | None, course: Course) -> Standing:
        low, high = test_of(line, self._registration).limits(course)
        if line.statistic != FAILURE_RATE:
            low, high = line.cap * (1 - high), line.cap * (1 - low)
        return Standing(
            line.name,
            level,
            course.units,
            len(self._registration.order),
            course.log_pass[-1] if course.log_pass else 0.0,
            None if self._registration.total is not None else course.log_fail[-1] if course.log_fail else 0.0,
            course.bar_pass,
            low,
            high,
            course.passed,
        )
