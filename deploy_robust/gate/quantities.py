"""The quantities that a policy may bound: each gives one number for each pair, from measurements alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deploy_robust.errors import PolicyError
from deploy_robust.gate.records import CLEAN, HIGH, INPUT, LOW, Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.gate.table import Table

ENGINE = "engine"
SOURCE = "source"
LITERAL = "literal"
"""Role of the engine's own graph, read operator by operator: what precision does without the runtime."""

TRANSFERRED = "pgd-lmse"
"""The attack that is crafted on the source and by which source and engine are compared."""

NOISE = "uniform"
"""The baseline that an attack must beat on its own source."""

HIGHEST_PSNR = 100.0
"""Identical 8-bit images have an infinite PSNR; differences and means count it as this many dB."""


class Point(NamedTuple):
    """A pair's number and the case that it was read from.

    Attributes:
        value: The number.
        case: The case.
        ends: (low, high) of what it may be, where it was measured on outputs that were rounded; None where it is known.
    """

    value: float
    case: Case
    ends: tuple[float, float] | None = None


Points = dict[str, Point]
"""Pair id to its point; a pair without its measurements is missing."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number for each pair.

    Attributes:
        name: Name in policies and reports.
        unit: Unit for tables.
        meaning: One line for documentation and reports.
        per_level: Whether it is asked for at an epsilon.
        needs_truth: Whether it needs ground truth.
        points: From the table, at an epsilon in grey levels (0 for clean), under the judged attacks.
    """

    name: str
    unit: str
    meaning: str
    per_level: bool
    needs_truth: bool
    points: Callable[[Table, float, tuple[str, ...]], Points]


def _psnr(table: Table, role: str, pair: str, attack: str = CLEAN, level: float = 0.0) -> float | None:
    value = table.get("psnr", role, pair, attack, level)
    return None if value is None else min(value, HIGHEST_PSNR)


def _weakest(table: Table, metric: str, pair: str, level: float, attacks: tuple[str, ...]) -> Point | None:
    """The engine at its worst over the judged attacks; None unless every one was measured or found a defect."""
    points = []
    defects = {m.case for m in table.defects if m.role == ENGINE}
    for attack in attacks:
        case = Case(pair, attack, level)
        value = table.get(metric, ENGINE, pair, attack, level)
        if value is not None:
            points.append(Point(min(value, HIGHEST_PSNR), case))
        elif case not in defects:
            return None
    return min(points, default=None)


def _clean_gain(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        engine, rain = _psnr(table, ENGINE, pair), _psnr(table, INPUT, pair)
        if engine is not None and rain is not None:
            found[pair] = Point(engine - rain, Case(pair))
    return found


def _attacked_gain(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        worst, rain = _weakest(table, "psnr", pair, level, attacks), _psnr(table, INPUT, pair)
        if worst is not None and rain is not None:
            found[pair] = Point(worst.value - rain, worst.case)
    return found


def _drop(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        worst, clean = _weakest(table, "psnr", pair, level, attacks), _psnr(table, ENGINE, pair)
        if worst is not None and clean is not None:
            found[pair] = Point(clean - worst.value, worst.case)
    return found


def _attacked(metric: str) -> Callable[[Table, float, tuple[str, ...]], Points]:
    def points(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
        worst = {pair: _weakest(table, metric, pair, level, attacks) for pair in table.scenes}
        return {pair: point for pair, point in worst.items() if point is not None}

    return points


def _clean(metric: str, role: str = ENGINE) -> Callable[[Table, float, tuple[str, ...]], Points]:
    def points(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
        found: Points = {}
        for pair in table.scenes:
            value, low, high = (table.get(f"{metric}{end}", role, pair) for end in ("", LOW, HIGH))
            if value is not None:
                ends = None if low is None or high is None else (low, high)
                found[pair] = Point(value, Case(pair), ends)
        return found

    return points


def _transfer_gap(table: Table, level: float, _attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        engine = _psnr(table, ENGINE, pair, TRANSFERRED, level)
        source = _psnr(table, SOURCE, pair, TRANSFERRED, level)
        if engine is not None and source is not None:
            found[pair] = Point(engine - source, Case(pair, TRANSFERRED, level))
    return found


def _attack_lead(table: Table, level: float, _attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        attack = table.get("drift", SOURCE, pair, TRANSFERRED, level)
        noise = table.get("drift", SOURCE, pair, NOISE, level)
        if attack is not None and noise is not None:
            found[pair] = Point(min(noise, HIGHEST_PSNR) - min(attack, HIGHEST_PSNR), Case(pair, TRANSFERRED, level))
    return found


def _defects(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
    counts: Points = {pair: Point(0.0, Case(pair)) for pair in table.scenes}
    for m in table.defects:
        if m.role == ENGINE:
            counts[m.case.pair] = Point(counts[m.case.pair].value + 1, m.case)
    return counts


_ALL = (
    Quantity("clean-gain", "dB", "clean output PSNR minus rainy input PSNR", False, True, _clean_gain),
    Quantity("clean-psnr", "dB", "PSNR of the clean output", False, True, _clean("psnr")),
    Quantity("clean-ssim", "", "SSIM of the clean output", False, True, _clean("ssim")),
    Quantity(
        "attacked-gain", "dB", "attacked output PSNR, worst attack, minus rainy input PSNR", True, True, _attacked_gain
    ),
    Quantity("attacked-psnr", "dB", "PSNR of the attacked output, worst attack", True, True, _attacked("psnr")),
    Quantity("attacked-ssim", "", "SSIM of the attacked output, worst attack", True, True, _attacked("ssim")),
    Quantity("drift", "dB", "PSNR between attacked and clean output, worst attack", True, False, _attacked("drift")),
    Quantity("drop", "dB", "clean output PSNR minus attacked output PSNR, worst attack", True, True, _drop),
    Quantity(
        "transfer-gap", "dB", "engine PSNR minus source PSNR under the same transferred PGD", True, True, _transfer_gap
    ),
    Quantity(
        "attack-lead",
        "dB",
        "how much further PGD moves its own source than uniform noise does",
        True,
        False,
        _attack_lead,
    ),
    Quantity(
        "fidelity", "dB", "engine against the literal reading of its own graph", False, False, _clean("fidelity_db")
    ),
    Quantity("conversion", "dB", "engine against its fp32 source", False, False, _clean("conversion_db")),
    Quantity(
        "conversion-max-abs", "", "largest difference to the fp32 source", False, False, _clean("conversion_max_abs")
    ),
    Quantity("defects", "", "NaN, Inf, wrong shape, crash or hang, clean or attacked", False, False, _defects),
)

QUANTITIES = {quantity.name: quantity for quantity in _ALL}


def quantity(name: str) -> Quantity:
    """The quantity of that name.

    Raises:
        PolicyError: There is none.
    """
    if name not in QUANTITIES:
        raise PolicyError(f"there is no quantity {name!r}; known are {', '.join(QUANTITIES)}")
    return QUANTITIES[name]
