"""Several engines in one run, one of which ends the process: what the others are measured to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.gate.records import CLEAN, ROWS, BatchResult, Case, Defect, Measurement
from deploy_robust.gate.survivors import Surviving

if TYPE_CHECKING:
    from deploy_robust.gate.records import Batch

ENGINES = ("a", "b", "c")
JUDGED = frozenset(ENGINES)
BATCH = (Case("p", CLEAN), Case("p", ROWS), Case("p", "noise", 2.0))


@dataclass
class Dying:
    """Measures what is left in order; the first engine that dies there takes the rest of the case with it."""

    deadly: dict[str, str]
    without: frozenset[str] = frozenset()
    closed: int = 0
    asked: list[Batch] = field(default_factory=list)

    def execute(self, batch: Batch) -> BatchResult:
        self.asked.append(batch)
        found = []
        for case in batch:
            for engine in ENGINES:
                if engine in self.without:
                    continue
                if kind := self.deadly.get(engine):
                    found.append(Measurement(case, "s", engine, "8bit", defect=Defect(kind, "gone")))
                    if kind in ("crash", "timeout"):
                        break
                    continue
                found.append(Measurement(case, "s", engine, "8bit", {"psnr": 20.0}))
        return BatchResult(tuple(found))

    def close(self) -> None:
        self.closed += 1


def surviving(**deadly: str) -> tuple[Surviving, list[Dying]]:
    made: list[Dying] = []

    def without(fallen: frozenset[str]) -> Dying:
        made.append(Dying(deadly, fallen))
        return made[-1]

    return Surviving(Dying(deadly), JUDGED, without), made


def test_an_engine_that_dies_takes_nobody_with_it() -> None:
    executor, made = surviving(a="crash", c="timeout")
    result = executor.execute(BATCH)
    assert [each.without for each in made] == [frozenset("a"), frozenset("ac")][: len(made)]
    found = {(m.case, m.role): m for m in result.measurements}
    assert len(found) == len(result.measurements)
    assert {role for _, role in found} == {"a", "b", "c"}
    for case in BATCH:
        assert found[case, "b"].values == {"psnr": 20.0}
        assert found[case, "a"].defect is not None
    assert all(each.closed == 1 for each in made)


def test_one_process_is_enough_where_all_answer() -> None:
    for kinds in ({}, {"b": "nan"}):
        executor, made = surviving(**kinds)
        assert len(executor.execute(BATCH).measurements) == len(BATCH) * len(ENGINES)
        assert not made


def test_a_run_of_engines_that_all_die_ends() -> None:
    executor, made = surviving(a="crash", b="crash", c="crash")
    result = executor.execute(BATCH)
    assert {m.role for m in result.measurements} == set(ENGINES)
    assert len(made) == 2
