"""Quantities of what others see in the output: mIoU and AP of downstream networks, and LPIPS."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deploy_robust.gate.evidence import FIGURES, over, severity
from deploy_robust.gate.quantity import ENGINE, Point, Pooled, Quantity, weakest
from deploy_robust.gate.records import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from deploy_robust.gate.quantity import Points
    from deploy_robust.gate.table import Table

    Reader = Callable[[Table, float, tuple[str, ...]], Points]
    Pooling = Callable[[Table, float, tuple[str, ...]], Pooled | None]


class _Seen(NamedTuple):
    """One pair's evidence, with its own figure; NaN where that is not defined."""

    case: Case
    value: float
    evidence: Mapping[str, Any]


def _clean(metric: str) -> Reader:
    def points(table: Table, _level: float, _attacks: tuple[str, ...]) -> Points:
        values = {pair: table.get(metric, ENGINE, pair) for pair in table.scenes}
        return {pair: Point(value, Case(pair)) for pair, value in values.items() if value is not None}

    return points


def _attacked(metric: str, *, highest: bool = False) -> Reader:
    def points(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
        worst = {pair: weakest(table, metric, pair, level, attacks, highest=highest) for pair in table.scenes}
        return {pair: point for pair, point in worst.items() if point is not None}

    return points


def _lost(metric: str) -> Reader:
    before, after = _clean(metric), _attacked(metric)

    def points(table: Table, level: float, attacks: tuple[str, ...]) -> Points:
        clean, attacked = before(table, level, attacks), after(table, level, attacks)
        return {
            pair: Point(clean[pair].value - point.value, point.case)
            for pair, point in attacked.items()
            if pair in clean
        }

    return points


def _clean_seen(metric: str, table: Table) -> dict[str, _Seen]:
    found = {}
    for pair in table.scenes:
        evidence = table.evidence(FIGURES[metric], ENGINE, Case(pair))
        if evidence is not None:
            value = table.get(metric, ENGINE, pair)
            found[pair] = _Seen(Case(pair), float("nan") if value is None else value, evidence)
    return found


def _attacked_seen(metric: str, table: Table, level: float, attacks: tuple[str, ...]) -> dict[str, _Seen]:
    """Each pair under the attack that is worst for it; pairs that lack an attack are missing, as for means."""
    defects = {m.case for m in table.defects if m.role == ENGINE}

    def under(pair: str) -> Iterator[tuple[Case, _Seen | None]]:
        for attack in attacks:
            case = Case(pair, attack, level)
            if case in defects:
                continue
            evidence = table.evidence(FIGURES[metric], ENGINE, case)
            if evidence is None and attack in table.known.partial:
                continue
            value = table.get(metric, ENGINE, pair, attack, level)
            yield case, None if evidence is None else _Seen(case, float("nan") if value is None else value, evidence)

    found = {}
    for pair in table.scenes:
        seen = [each for _, each in under(pair)]
        if seen and (whole := [each for each in seen if each is not None]) and len(whole) == len(seen):
            found[pair] = min(whole, key=lambda each: _rank(metric, each))
    return found


def _rank(metric: str, seen: _Seen) -> float:
    return severity(metric, seen.evidence) if seen.value != seen.value else seen.value


def _pool_clean(metric: str) -> Pooling:
    def pooled(table: Table, _level: float, _attacks: tuple[str, ...]) -> Pooled | None:
        seen = _clean_seen(metric, table)
        if not seen:
            return None
        return Pooled(_points(seen), over(metric, [each.evidence for each in seen.values()]))

    return pooled


def _pool_attacked(metric: str) -> Pooling:
    def pooled(table: Table, level: float, attacks: tuple[str, ...]) -> Pooled | None:
        seen = _attacked_seen(metric, table, level, attacks)
        if not seen:
            return None
        return Pooled(_points(seen), over(metric, [each.evidence for each in seen.values()]))

    return pooled


def _pool_lost(metric: str) -> Pooling:
    def pooled(table: Table, level: float, attacks: tuple[str, ...]) -> Pooled | None:
        clean, attacked = _clean_seen(metric, table), _attacked_seen(metric, table, level, attacks)
        pairs = [pair for pair in attacked if pair in clean]
        if not pairs:
            return None
        before = over(metric, [clean[pair].evidence for pair in pairs])
        after = over(metric, [attacked[pair].evidence for pair in pairs])
        points = {pair: Point(clean[pair].value - attacked[pair].value, attacked[pair].case) for pair in pairs}
        return Pooled(points, lambda weights: before(weights) - after(weights))

    return pooled


def _points(seen: Mapping[str, _Seen]) -> Points:
    return {pair: Point(each.value, each.case) for pair, each in seen.items()}


_WORDS = {"miou": "mIoU of the segmentation", "ap": "AP of the detection", "ap50": "AP50 of the detection"}


def _quantities() -> Iterator[Quantity]:
    for metric, task in FIGURES.items():
        what = _WORDS[metric]
        yield Quantity(
            f"clean-{metric}", "", f"{what} of the clean output", False, True, _clean(metric), task, _pool_clean(metric)
        )
        yield Quantity(
            f"attacked-{metric}",
            "",
            f"{what} of the attacked output, worst attack",
            True,
            True,
            _attacked(metric),
            task,
            _pool_attacked(metric),
        )
        yield Quantity(
            f"{metric}-drop",
            "",
            f"{what} of the clean output minus that of the attacked one, worst attack",
            True,
            True,
            _lost(metric),
            task,
            _pool_lost(metric),
        )
    yield Quantity("clean-lpips", "", "LPIPS (AlexNet) of the clean output", False, True, _clean("lpips"), "lpips")
    yield Quantity(
        "attacked-lpips",
        "",
        "LPIPS (AlexNet) of the attacked output, worst attack",
        True,
        True,
        _attacked("lpips", highest=True),
        "lpips",
    )


DOWNSTREAM = tuple(_quantities())
