"""A comparison for a terminal: renderables of rich; printing them is the command's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from deploy_robust.report import wording
from deploy_robust.report.comparison.headline import findings
from deploy_robust.report.comparison.records import WORST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from deploy_robust.report.comparison.records import Builds, Comparison

_STYLES = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "broken": "red", "holds": "green"}


def tables(comparison: Comparison) -> Iterator[RenderableType]:
    """Engines, then attacks, then agreement, then builds; foreign text enters as text, never as markup."""
    yield _engines(comparison)
    yield _attacks(comparison)
    if len(comparison.engines) > 1:
        yield _agreement(comparison)
    for builds in comparison.builds:
        yield _builds(builds)
    for line in (*findings(comparison), *(f"note: {note}" for note in comparison.notes)):
        yield _text(line)


def _engines(comparison: Comparison) -> Table:
    table = _table(f"engines, on {comparison.images} clean images")
    table.add_column("engine", overflow="fold")
    for name in ("parity", "network\ndB", "graph\ndB", "clean\ndB", "asked\ntwice", "other\nrow", "verdict"):
        table.add_column(name, justify="left" if name in ("parity", "verdict") else "right", no_wrap=True)
    for row in comparison.engines:
        table.add_row(
            _text(row.name),
            Text(row.parity, style=_STYLES.get(row.parity, "yellow")),
            _decibels(row.conversion_db, there=row.own is not None),
            _decibels(row.fidelity_db, there=row.literal is not None),
            wording.number(row.clean),
            _apart(row.repeat_max_abs),
            _apart(row.rows_max_abs),
            Text(row.verdict, style=_STYLES.get(row.verdict, "")),
        )
    return table


def _attacks(comparison: Comparison) -> Table:
    what = "PSNR" if comparison.metric == "psnr" else "PSNR to the clean output"
    table = _table(f"mean {what} under attack, dB, and how far that is from the attacked network")
    table.add_column("engine", overflow="fold")
    for level in comparison.levels:
        table.add_column(wording.epsilon(level), justify="right", no_wrap=True)
    for column in comparison.columns:
        table.add_row(Text(wording.printable(column.name), style="bold"))
        for row in comparison.engines:
            name = _text(f"  {row.name}")
            if row.void:
                table.add_row(name, *["void"] * len(comparison.levels), style="dim")
                continue
            cells = (_cell(comparison, row.name, column.name, level) for level in comparison.levels)
            table.add_row(name, *cells)
        table.add_section()
    return table


def _cell(comparison: Comparison, engine: str, column: str, level: float) -> Text:
    cell = comparison.cell(engine, column, level)
    if cell is None:
        return Text(wording.NOTHING)
    if cell.void:
        return Text("void", style="dim")
    gap = "" if cell.gap is None else f" {wording.number(cell.gap.mean, signed=True)}"
    return Text.assemble(wording.number(cell.mean), (f"{gap:>7}", "dim"))


def _agreement(comparison: Comparison) -> Table:
    table = _table("agreement, each image at its worst over all attacks")
    table.add_column("engines")
    for level in comparison.levels:
        table.add_column(wording.epsilon(level), justify="right")
    pairs = list(dict.fromkeys((row.a, row.b) for row in comparison.agreement))
    found = {(row.a, row.b, row.level): row for row in comparison.agreement if row.column == WORST}
    for a, b in pairs:
        texts = []
        for level in comparison.levels:
            row = found.get((a, b, level))
            if row is None or row.void:
                texts.append(Text(wording.NOTHING if row is None else "void", style="dim"))
                continue
            either = "" if row.both is None else f", {row.both} of {row.images - (row.neither or 0)}"
            texts.append(Text(f"{wording.number(row.tau)}{'' if either.endswith(' of 0') else either}"))
        table.add_row(_text(f"{a}, {b}"), *texts)
    broken = "; of the images that break any (worse than the rain), how many break both"
    caption = f"rank agreement of what each image loses (tau-b){broken if comparison.metric == 'psnr' else ''}"
    table.caption, table.caption_justify = caption, "left"
    return table


def _builds(builds: Builds) -> Table:
    table = _table(f"{len(builds.verdicts)} builds of {wording.printable(builds.engine)}: {builds.how}")
    table.add_column("figure")
    for number in range(1, len(builds.verdicts) + 1):
        table.add_column(f"#{number}", justify="right", no_wrap=True)
    table.add_column("spread", justify="right", no_wrap=True)
    for figure in builds.figures:
        name = figure.name if figure.level is None else f"{figure.name} at {wording.epsilon(figure.level)}"
        values = (wording.number(value) for value in figure.values)
        table.add_row(f"{name}, dB", *values, wording.number(figure.spread))
    for name, words in (("parity", builds.parity), ("verdict", builds.verdicts)):
        table.add_row(name, *words, "none" if len(set(words)) == 1 else f"{len(set(words))} kinds")
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _decibels(value: float | None, *, there: bool) -> str:
    return wording.number(value, 1) if value is not None or not there else "identical"


def _apart(value: float | None) -> str:
    if value is None:
        return wording.NOTHING
    return "same" if value == 0 else f"{value:.1e}"


def _text(text: str) -> Text:
    return Text(wording.printable(text))
