"""The bound on the gap that a pipeline may set: what breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.report.comparison.records import Exceeded
from deploy_robust.report.wording import epsilon, interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy_robust.report.comparison.records import Cell, Column, EngineRow


def exceeded(
    bound: float,
    engines: Sequence[EngineRow],
    columns: Sequence[Column],
    cells: Sequence[Cell],
    levels: Sequence[float],
) -> Iterator[Exceeded]:
    """Engines whose gap does not lie inside the bound for certain.

    The whole interval of every gap to the networks that an engine was made from must lie within plus and minus the
    bound, under the attacks crafted on those. A void engine holds no bound: what it shows says nothing. One whose gap
    was not measured holds none either.
    """
    for engine in engines:
        if engine.void:
            yield Exceeded(engine.name, engine.void)
            continue
        own = [c for c in columns if c.source is not None and c.source in (engine.own, engine.literal)]
        if not own:
            yield Exceeded(engine.name, "no attack was crafted on a network that it was made from: no gap is measured")
        for column in own:
            for level in levels:
                yield from _one(bound, engine.name, column, level, cells)


def _one(bound: float, name: str, column: Column, level: float, cells: Sequence[Cell]) -> Iterator[Exceeded]:
    where = f"{column.name} at {epsilon(level)}"
    cell = next((c for c in cells if (c.engine, c.column, c.level) == (name, column.name, level)), None)
    if cell is None or cell.gap is None or cell.void:
        yield Exceeded(name, f"{where}: {'nothing was measured' if cell is None or not cell.void else cell.void}")
        return
    low, high = cell.gap.low, cell.gap.high
    if low is None or high is None or low < -bound or high > bound:
        yield Exceeded(name, f"{where}: the gap's interval {interval(low, high)} dB reaches beyond {bound:g} dB")
