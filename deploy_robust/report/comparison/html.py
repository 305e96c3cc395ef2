"""The page of a comparison: one file, which asks for nothing from outside."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from deploy_robust.report.comparison.headline import findings
from deploy_robust.report.comparison.records import WORST
from deploy_robust.report.html import environment
from deploy_robust.report.provenance import flatten
from deploy_robust.report.wording import NOTHING, epsilon, interval, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deploy_robust.report.comparison.records import AgreementRow, Cell, Column, Comparison

_LEAST_SCALE = 1.5
"""dB at which a gap has its full colour at the least, or noise would look like a finding."""


@dataclass(frozen=True, slots=True)
class Square:
    """One square of a heat map.

    Attributes:
        text: The figure.
        sub: Lines below it.
        colour: ``level`` for a scale from bad to good, ``above`` and ``below`` for one around zero, or empty.
        strength: Place on that scale, 0 to 100.
        void: Why the figure says nothing; empty where it counts.
    """

    text: str
    sub: tuple[str, ...] = ()
    colour: str = ""
    strength: float = 0.0
    void: str = ""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of squares.

    Attributes:
        title: What it shows.
        columns: Heads, each of two lines.
        rows: (name, whether it is an engine, squares).
    """

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, bool, tuple[Square, ...]], ...]


def render(comparison: Comparison) -> bytes:
    """The page as UTF-8 bytes."""
    template = environment().get_template("compare.html")
    page = template.render(
        c=comparison,
        findings=list(findings(comparison)),
        css=_asset("report.css") + _asset("compare.css"),
        script=_asset("report.js"),
        parity=_parity(comparison),
        maps=[(epsilon(level), _means(comparison, level), _gaps(comparison, level)) for level in comparison.levels],
        agreement=[(epsilon(level), _agreement(comparison, level)) for level in comparison.levels],
        provenance=flatten(comparison.provenance),
        nothing=NOTHING,
    )
    return page.encode("utf-8")


def _heads(columns: Sequence[Column]) -> tuple[tuple[str, str], ...]:
    return tuple((column.attack, "" if column.source is None else f"on {column.source}") for column in columns)


def _attacked(
    comparison: Comparison, columns: Sequence[Column], level: float, title: str, square: Callable[[Cell], Square]
) -> HeatMap:
    """Engines, then sources for comparison, under attacks at one epsilon."""
    rows = []
    engines = [row.name for row in comparison.engines]
    for name in (*engines, *(source.name for source in comparison.sources if source.attacks)):
        cells = (comparison.cell(name, column.name, level) for column in columns)
        rows.append((name, name in engines, tuple(Square(NOTHING) if c is None else square(c) for c in cells)))
    return HeatMap(title, _heads(columns), tuple(rows))


def _means(comparison: Comparison, level: float) -> HeatMap:
    counted = [cell.mean for cell in comparison.cells if not cell.void]
    low, high = min(counted, default=0.0), max(counted, default=1.0)

    def square(cell: Cell) -> Square:
        place = 100 * (min(max(cell.mean, low), high) - low) / ((high - low) or 1.0)
        return Square(number(cell.mean), (), "" if cell.void else "level", round(place, 1), cell.void)

    what = "Mean PSNR" if comparison.metric == "psnr" else "Mean PSNR to the clean output"
    return _attacked(comparison, comparison.columns, level, f"{what}, dB", square)


def _gaps(comparison: Comparison, level: float) -> HeatMap | None:
    crafted = [column for column in comparison.columns if column.source is not None]
    if not crafted:
        return None
    counted = [abs(cell.gap.mean) for cell in comparison.cells if cell.gap is not None and not cell.void]
    scale = max(_LEAST_SCALE, *counted, 0.0)

    def square(cell: Cell) -> Square:
        if cell.gap is None:
            return Square(NOTHING, void=cell.void)
        colour = "above" if cell.gap.mean > 0 else "below"
        return Square(
            number(cell.gap.mean, signed=True),
            (interval(cell.gap.low, cell.gap.high),),
            "" if cell.void else colour,
            round(100 * min(abs(cell.gap.mean) / scale, 1.0), 1),
            cell.void,
        )

    return _attacked(comparison, crafted, level, "Gap to the attacked network, dB", square)


def _parity(comparison: Comparison) -> HeatMap:
    names = [*(row.name for row in comparison.engines), *(source.name for source in comparison.sources)]
    rows = []
    for engine in comparison.engines:
        squares = []
        for other in names:
            cell = comparison.between(engine.name, other)
            if other == engine.name or cell is None:
                squares.append(Square("" if other == engine.name else NOTHING))
                continue
            text = "identical" if cell.lowest_db is None else number(cell.lowest_db, 1)
            place = 100.0 if cell.lowest_db is None else min(max((cell.lowest_db - 20) / 80 * 100, 0.0), 100.0)
            squares.append(Square(text, (f"max {cell.max_abs:.1e}",), "level", round(place, 1)))
        rows.append((engine.name, True, tuple(squares)))
    return HeatMap("Lowest PSNR between clean outputs, dB", tuple((name, "") for name in names), tuple(rows))


def _agreement(comparison: Comparison, level: float) -> HeatMap | None:
    names = [row.name for row in comparison.engines]
    if len(names) < 2:
        return None
    found = {(row.a, row.b): row for row in comparison.agreement if row.column == WORST and row.level == level}
    rows = []
    for a in names:
        squares = (_agreeing(found.get((a, b)), found.get((b, a))) if a != b else Square("") for b in names)
        rows.append((a, True, tuple(squares)))
    return HeatMap("Row against column, each image at its worst", tuple((name, "") for name in names), tuple(rows))


def _agreeing(row: AgreementRow | None, mirrored: AgreementRow | None) -> Square:
    if (this := row or mirrored) is None:
        return Square(NOTHING)
    return Square(
        number(this.tau),
        tuple(_details(this, -1 if row is None else 1)),
        "" if this.void or this.tau is None else "level",
        round(100 * max(this.tau or 0.0, 0.0), 1),
        this.void,
    )


def _details(row: AgreementRow, sign: int) -> Iterator[str]:
    if row.both is not None and row.neither is not None:
        either = row.images - row.neither
        yield f"break both: {row.both} of {either}" if either else "none breaks"
    d = row.difference
    low, high = (None if end is None else sign * end for end in ((d.low, d.high) if sign > 0 else (d.high, d.low)))
    yield f"{number(sign * d.mean, signed=True)} dB {interval(low, high)}"


def _asset(name: str) -> Markup:
    return Markup(files("deploy_robust.report").joinpath("assets", name).read_text(encoding="utf-8"))  # noqa: S704  # our own file
