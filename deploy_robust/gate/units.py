"""Pairs as units of a test by betting: one loss each, in the registered order and in no other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from deploy_robust.gate.quantities import ENGINE, quantity
from deploy_robust.gate.records import CLEAN, FAILURE_RATE, Case
from deploy_robust.statistics.betting import psnr_loss
from deploy_robust.statistics.course import Test

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy_robust.gate.records import Measurement, Requirement
    from deploy_robust.gate.registration import Registration
    from deploy_robust.gate.table import Table


class Unit(NamedTuple):
    """What one pair came to.

    Attributes:
        scene: The independent draw that it belongs to.
        loss: In [0, 1].
        case: Where it was at its worst.
        value: The quantity there; None for a defect.
    """

    scene: str
    loss: float
    case: Case
    value: float | None


def units_of(line: Requirement, level: float | None, table: Table, attacks: tuple[str, ...]) -> dict[str, Unit]:
    """The pairs that are measured whole; a crash, a NaN or a wrong shape of the engine is the largest loss."""
    points = quantity(line.quantity).points(table, level or 0.0, attacks)
    defects: dict[str, Case] = {}
    for m in table.defects:
        if m.role == ENGINE and (m.case.attack == CLEAN or (m.case.level == level and m.case.attack in attacks)):
            defects.setdefault(m.case.pair, m.case)
    found = {}
    for pair, scene in table.scenes.items():
        if pair in defects:
            found[pair] = Unit(scene, 1.0, defects[pair], None)
        elif pair in points:
            value, case, _ = points[pair]
            found[pair] = Unit(scene, _loss(line, value), case, value)
    return found


def _loss(line: Requirement, value: float) -> float:
    if line.statistic != FAILURE_RATE:
        return psnr_loss(value, line.cap)
    low = line.at_least is not None and not value >= line.at_least
    high = line.at_most is not None and not value <= line.at_most
    return float(low or high)


def in_order(units: Mapping[str, Unit], registration: Registration) -> list[tuple[float, tuple[Unit, ...]]]:
    """(loss, pairs) of each unit of the test, in the registered order, up to the first pair that is not measured.

    In a stream the pairs of one scene are one unit with their mean loss: frames of a clip are not independent. In a set
    every image is a unit.
    """
    groups: dict[str, list[Unit]] = defaultdict(list)
    for pair in registration.order:
        if pair not in units:
            break
        groups[units[pair].scene if registration.total is None else pair].append(units[pair])
    return [(sum(unit.loss for unit in group) / len(group), tuple(group)) for group in groups.values()]


def test_of(line: Requirement, registration: Registration) -> Test:
    """The test that decides a line."""
    alphas = registration.alphas(line)
    if line.statistic == FAILURE_RATE:
        return Test(line.p0 or 0.0, True, registration.total, *alphas)
    return Test(1 - (line.at_least or 0.0) / line.cap, False, registration.total, *alphas)


def queries_of(measurements: Iterable[Measurement]) -> int:
    """Queries that searches have spent on the engine, probes included."""
    return sum(int(m.values.get("queries", 0)) for m in measurements)


def lines_of(requirements: Sequence[Requirement]) -> list[tuple[Requirement, float | None]]:
    """The lines that are decided by betting, once for each epsilon."""
    return [(line, level) for line in requirements if line.by_betting for level in line.levels or (None,)]
