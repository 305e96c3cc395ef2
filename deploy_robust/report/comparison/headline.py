"""What a comparison comes to, in a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.report.wording import epsilon, interval, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.report.comparison.records import Comparison


def findings(comparison: Comparison) -> Iterator[str]:
    """What a reader should know first, most serious first."""
    for engine in comparison.engines:
        if engine.void:
            yield f"{engine.name}: {engine.void}. Under attack it is struck out: a damaged engine looks robust."
    for engine in comparison.engines:
        if engine.parity == "unknown":
            yield f"{engine.name}: its parity is unknown, so that its figures under attack prove nothing."
        elif engine.parity == "unproven":
            yield f"{engine.name}: its parity holds on what was measured, and the policy asks for more images."
        if engine.repeat_max_abs:
            yield (f"{engine.name}: not deterministic: two answers to one image are {engine.repeat_max_abs:.2g} apart.")
        if engine.rows_max_abs:
            yield (
                f"{engine.name}: answers to the same image in different rows of a batch lie up to "
                f"{engine.rows_max_abs:.2g} apart."
            )
    if (widest := _widest(comparison)) is not None:
        yield widest


def _widest(comparison: Comparison) -> str | None:
    """The engine furthest from a network that it was made from, of those that count."""
    own = {engine.name: (engine.own, engine.literal) for engine in comparison.engines}
    sources = {column.name: column.source for column in comparison.columns}
    gaps = [
        cell
        for cell in comparison.cells
        if cell.gap is not None and not cell.void and sources[cell.column] in own.get(cell.engine, ())
    ]
    if not gaps:
        return None
    cell = max(gaps, key=lambda cell: abs(cell.gap.mean) if cell.gap is not None else 0.0)
    if cell.gap is None:
        return None
    return (
        f"The widest gap between an engine and what it was made from: {cell.engine} under {cell.column} at "
        f"{epsilon(cell.level)}, {number(cell.gap.mean, signed=True)} dB {interval(cell.gap.low, cell.gap.high)}."
    )
