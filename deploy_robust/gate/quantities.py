"""The quantities that a policy may bound: each gives one number for each pair, from measurements alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import PolicyError
from deploy_robust.gate.downstream_quantities import DOWNSTREAM
from deploy_robust.gate.quantity import (
    ATTACKED_CONVERSION,
    ATTACKED_FIDELITY,
    DIVERGENCE,
    ENGINE,
    HIGHEST_PSNR,
    INDEPENDENT_ROWS,
    LITERAL,
    NOISE,
    REPEATABLE,
    SOURCE,
    TRANSFERRED,
    Point,
    Points,
    Pooled,
    Quantity,
    weakest,
)
from deploy_robust.gate.records import BATCH_DB, CLEAN, HIGH, INPUT, LOW, REPEAT_DB, ROWS, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deploy_robust.gate.table import Table

__all__ = [
    "ATTACKED_CONVERSION",
    "ATTACKED_FIDELITY",
    "DIVERGENCE",
    "ENGINE",
    "HIGHEST_PSNR",
    "INDEPENDENT_ROWS",
    "LITERAL",
    "NOISE",
    "QUANTITIES",
    "REPEATABLE",
    "SOURCE",
    "TRANSFERRED",
    "Point",
    "Points",
    "Pooled",
    "Quantity",
    "quantity",
]


def _psnr(table: Table, role: str, pair: str, attack: str = CLEAN, level: float = 0.0) -> float | None:
    value = table.get("psnr", role, pair, attack, level)
    return None if value is None else min(value, HIGHEST_PSNR)


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
        worst, rain = weakest(table, "psnr", pair, level, attacks), _psnr(table, INPUT, pair)
        if worst is not None and rain is not None:
            found[pair] = Point(worst.value - rain, worst.case)
    return found


def _drop(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        worst, clean = weakest(table, "psnr", pair, level, attacks), _psnr(table, ENGINE, pair)
        if worst is not None and clean is not None:
            found[pair] = Point(clean - worst.value, worst.case)
    return found


def _attacked(metric: str) -> Callable[[Table, float, tuple[str, ...]], Points]:
    def points(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
        worst = {pair: weakest(table, metric, pair, level, attacks) for pair in table.scenes}
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


def _attacked_parity(figure: str) -> Callable[[Table, float, tuple[str, ...]], Points]:
    """The lowest parity of each pair over all attacks at an epsilon, also over those that judge no robustness.

    A network that is there for parity alone is compared on images of searches and not of noise.
    """

    def points(table: Table, level: float, _attacks: tuple[str, ...]) -> Points:
        found: Points = {}
        for key in table.measured():
            pair, attack = key.case.pair, key.case.attack
            if key.role != ENGINE or key.delivery != "8bit" or not key.case.attacked or key.case.level != level:
                continue
            value, low, high = (table.get(f"{figure}{end}", ENGINE, pair, attack, level) for end in ("", LOW, HIGH))
            if value is not None and (pair not in found or value < found[pair].value):
                found[pair] = Point(value, key.case, None if low is None or high is None else (low, high))
        return found

    return points


def _search_lead(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
    """By how much searches by queries leave less of the engine's output than all attacks by gradients."""
    searches, gradients = (table.known.of(access, attacks) for access in ("queries", "gradients"))
    found: Points = {}
    for pair in table.scenes:
        strongest = _strongest(table, pair, searches, level)
        weaker = _strongest(table, pair, [name for name in gradients if not _dead(table, pair, name, level)], level)
        if strongest is not None and weaker is not None:
            found[pair] = Point(weaker.value - strongest.value, strongest.case)
    return found


def _strongest(table: Table, pair: str, attacks: Iterable[str], level: float) -> Point | None:
    """What the strongest of the attacks left of the engine's output: PSNR to the truth, else to its clean output."""
    points = []
    for attack in attacks:
        psnr, drift = (table.get(metric, ENGINE, pair, attack, level) for metric in ("psnr", "drift"))
        value = drift if psnr is None else psnr
        if value is not None:
            points.append(Point(min(value, HIGHEST_PSNR), Case(pair, attack, level)))
    return min(points, default=None)


def _dead(table: Table, pair: str, attack: str, level: float) -> bool:
    """Whether the network that an attack was crafted on gave it no gradients."""
    return any(table.get("dead_start", role, pair, attack, level) for role in (SOURCE, LITERAL, ENGINE))


def _rows(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for pair in table.scenes:
        value = table.get(BATCH_DB, ENGINE, pair, ROWS)
        if value is not None:
            found[pair] = Point(value, Case(pair, ROWS))
    return found


def _repeatability(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
    found: Points = {}
    for key in table.measured():
        if key.role != ENGINE or key.delivery != "8bit":
            continue
        value = table.get(REPEAT_DB, ENGINE, key.case.pair, key.case.attack, key.case.level)
        if value is not None and (key.case.pair not in found or value < found[key.case.pair].value):
            found[key.case.pair] = Point(value, key.case)
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
        "search-lead",
        "dB",
        "how much less searches by queries leave of the output than all attacks by gradients",
        True,
        False,
        _search_lead,
    ),
    Quantity(
        "fidelity", "dB", "engine against the literal reading of its own graph", False, False, _clean("fidelity_db")
    ),
    Quantity("conversion", "dB", "engine against its fp32 source", False, False, _clean("conversion_db")),
    Quantity(
        "conversion-max-abs", "", "largest difference to the fp32 source", False, False, _clean("conversion_max_abs")
    ),
    Quantity(
        ATTACKED_FIDELITY,
        "dB",
        "engine against the literal reading of its own graph, on attacked images, worst attack",
        True,
        False,
        _attacked_parity("fidelity_db"),
    ),
    Quantity(
        ATTACKED_CONVERSION,
        "dB",
        "engine against its fp32 source, on attacked images, worst attack",
        True,
        False,
        _attacked_parity("conversion_db"),
    ),
    Quantity(
        INDEPENDENT_ROWS, "dB", "answer beside other images of a batch against the answer alone", False, False, _rows
    ),
    Quantity(REPEATABLE, "dB", "second answer to an image against the first", False, False, _repeatability),
    Quantity("defects", "", "NaN, Inf, wrong shape, crash or hang, clean or attacked", False, False, _defects),
)

QUANTITIES = {quantity.name: quantity for quantity in (*_ALL, *DOWNSTREAM)}


def quantity(name: str) -> Quantity:
    """The quantity of that name.

    Raises:
        PolicyError: There is none.
    """
    if name not in QUANTITIES:
        raise PolicyError(f"there is no quantity {name!r}; known are {', '.join(QUANTITIES)}")
    return QUANTITIES[name]
