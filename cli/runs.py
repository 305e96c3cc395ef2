"""``deploy-robust runs``: what run folders hold, and making them smaller."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli.options import FILE, Finite
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.app.runs import Pruned, RunLine

_UNDER = Path("runs")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group(name="runs")
def command() -> None:
    """Lists run folders, shows one, and drops stored images to save room."""


@command.command(name="list")
@click.argument("folder", type=FILE, default=_UNDER)
@_JSON
def list_command(folder: Path, as_json: bool) -> None:
    """Lists every run below FOLDER (runs, if none is named), with what it last came to."""
    from rich import box
    from rich.table import Table

    from deploy_robust.app.runs import list_runs
    from deploy_robust.cli.screen import console
    from deploy_robust.report.wording import printable

    lines = list_runs(folder)
    if as_json:
        _echo(lines)
        return
    screen = console()
    if not lines:
        screen.print(f"no runs below {printable(str(folder))}", markup=False)
        return
    table = Table("run", "engine", "data", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("cases", "verdict", "MB", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        row = [printable(str(line.folder)), printable(line.engine), printable(line.data)]
        table.add_row(
            *(_bare(text) for text in (*row, _cases(line), _state(line), f"{line.megabytes:.1f}", _age(line)))
        )
    screen.print(table)
    for line in lines:
        if line.problem:
            screen.print(f"{printable(str(line.folder))}: {printable(line.problem)}", markup=False, soft_wrap=True)


@command.command(name="show")
@click.argument("run", type=FILE)
@_JSON
def show_command(run: Path, as_json: bool) -> None:
    """Shows the verdict and the tables of RUN, judged anew from what it holds; nothing is written."""
    from deploy_robust.app.runs import show_run
    from deploy_robust.cli.screen import console
    from deploy_robust.cli.verdict import print_tables
    from deploy_robust.gate.records import Case
    from deploy_robust.report.wording import printable

    line, result = show_run(run)
    if as_json:
        click.echo(json.dumps({"run": _plain(line), "report": result.summary.to_dict()}, indent=1, default=str))
        return
    screen = console()
    print_tables(result.summary, screen)
    for row in result.summary.cases[:3]:
        case = Case(row.case.pair, row.case.attack, row.case.level)
        screen.print(f"worst: {printable(str(case))}", markup=False, soft_wrap=True)
    facts = (printable(line.engine), printable(line.data), f"{_cases(line)} cases", f"{line.images} images")
    screen.print(f"{printable(str(run))}: {', '.join(facts)}, {line.megabytes:.1f} MB", markup=False, soft_wrap=True)


@command.command(name="prune")
@click.argument("run", type=FILE, nargs=-1)
@click.option("--older-than", type=Finite(min=0), metavar="DAYS", help="Prune every run whose last batch is older.")
@click.option("--under", type=FILE, default=_UNDER, show_default=True, help="Where --older-than looks for runs.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Keep the images of the N worst cases, and then those of all defects.",
)
@_JSON
def prune_command(run: tuple[Path, ...], older_than: float | None, under: Path, keep: int, as_json: bool) -> None:
    """Drops stored images of each RUN for good; measurements and written reports stay.

    A pruned run can be judged again, replayed, shown and gone on with; reports that are written later show only the
    images that were kept.
    """
    from deploy_robust.app.runs import prune_older, prune_run
    from deploy_robust.cli.screen import console
    from deploy_robust.report.wording import printable

    if bool(run) == (older_than is not None):
        raise UsageError("name runs to prune, or say --older-than DAYS to prune those below --under")
    pruned = [prune_run(each, keep=keep) for each in run] if older_than is None else []
    if older_than is not None:
        pruned = prune_older(under, older_than, keep=keep)
    if as_json:
        _echo(pruned)
        return
    screen = console()
    for each in pruned:
        screen.print(
            f"{printable(str(each.folder))}: {each.dropped} images dropped, {each.kept} kept, "
            f"{each.megabytes_before:.1f} MB to {each.megabytes:.1f} MB",
            markup=False,
            soft_wrap=True,
        )
    if not pruned:
        screen.print("nothing to prune")


def _echo(records: Sequence[RunLine | Pruned]) -> None:
    click.echo(json.dumps([_plain(record) for record in records], indent=1))


def _plain(record: RunLine | Pruned) -> dict[str, Any]:
    return {**asdict(record), "folder": str(record.folder)}


def _bare(text: str) -> Any:
    """Text that is no markup, whatever it holds."""
    from rich.text import Text

    return Text(text)


def _cases(line: RunLine) -> str:
    return f"{line.done}" if line.planned is None or line.ended else f"{line.done} of {line.planned}"


def _state(line: RunLine) -> str:
    if line.problem:
        return "unreadable"
    if not line.ended:
        return "unfinished"
    return line.verdict or "not judged"


def _age(line: RunLine) -> str:
    seconds = line.age_seconds
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
