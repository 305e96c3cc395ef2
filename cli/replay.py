"""``deploy-robust replay``: one case of a run again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from deploy_robust.cli.options import FILE, Finite

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from deploy_robust.app.replay import Replay

SAME, DIFFERS = 0, 1
"""What the process exits with."""


@click.command(name="replay")
@click.argument("run", type=FILE)
@click.argument("case", nargs=-1, required=True, metavar="PAIR ATTACK LEVEL")
@click.option("--engine", type=FILE, help="Where the engine lies now, if not where it was.")
@click.option("--data", type=FILE, help="Where the folder of images lies now, if not where it was.")
@click.option("--outputs", type=FILE, help="Where recorded outputs lie now, if not where they were.")
@click.option(
    "--tolerance",
    type=Finite(min=0),
    default=1e-3,
    show_default=True,
    help="Relative difference of a figure that counts as the same; 0 asks for the same images, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(
    run: Path,
    case: tuple[str, ...],
    engine: Path | None,
    data: Path | None,
    outputs: Path | None,
    tolerance: float,
    as_json: bool,
) -> int:
    """Runs one case of RUN again and compares it with what was stored.

    The case is written as reports print it: `scene-0003 pgd-lmse@2`, or `scene-0003 pgd-lmse 2`, or `scene-0003
    clean`. On the machine and with the libraries that made the run it comes out the same to the bit. Nothing is
    written.

    Exit codes: 0 the same, 1 it differs, 2 trouble.
    """
    from deploy_robust.app.replay import parse_case, replay
    from deploy_robust.cli.screen import console
    from deploy_robust.report.wording import printable

    screen = console()
    with console(stderr=True).status("running the case again"):
        outcome = replay(run, parse_case(case), tolerance=tolerance, engine=engine, data=data, outputs=outputs)
    if as_json:
        click.echo(json.dumps({**asdict(outcome), "tolerance": tolerance}, indent=1))
        return SAME if outcome.same else DIFFERS
    screen.print(_table(outcome))
    for note in outcome.notes:
        screen.print(f"note: {printable(note)}", markup=False)
    verdict = "the same" if outcome.same else "it differs"
    screen.print(f"{printable(str(outcome.case))}: {verdict} (tolerance {tolerance:g})", markup=False)
    return SAME if outcome.same else DIFFERS


def _table(outcome: Replay) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("network", "delivery", "figure", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stored", "now"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("same")
    for figure in outcome.figures:
        table.add_row(
            figure.role,
            figure.delivery,
            figure.name,
            _text(figure.stored),
            _text(figure.now),
            "yes" if figure.same else "no",
        )
    return table


def _text(value: float | str | None) -> str:
    if value is None:
        return "nothing"
    return f"{value:.6g}" if isinstance(value, float) else value[:12]
