"""``deploy-robust attack``: craft adversarial images once, and store them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli.check_options import attack_request, network_options, running_options
from deploy_robust.cli.crafting_options import crafting_options
from deploy_robust.cli.io_options import io_options
from deploy_robust.cli.options import FILE, pairs_options

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from deploy_robust.app.attack import Attacked


@click.command(name="attack")
@network_options(required=False)
@pairs_options
@click.option(
    "--policy",
    default="default",
    show_default=True,
    help="Shipped policy (default, unpaired) or a TOML file: its attacks and epsilons.",
)
@click.option("--attack", "attacks", multiple=True, help="Only this attack, of the policy or of the built-in ones.")
@click.option("--objective", "objectives", multiple=True, help="PGD on this objective, like lpips; may be given again.")
@click.option(
    "--mask",
    "masks",
    multiple=True,
    help="PGD in this region: rain, not-rain, everywhere; may be given again. Every objective runs in every mask.",
)
@click.option("--epsilon", multiple=True, help="Only this epsilon, like 2/255; may be given again.")
@click.option("--out", type=FILE, default="sets/adversarial", show_default=True, help="Folder of the set.")
@click.option("--run", "run", type=FILE, help="Run folder; repeat to go on there. [default: the set's name and .run]")
@crafting_options
@running_options
@io_options
@click.option("--json", "as_json", is_flag=True, help="Print what was crafted as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Print the set's folder only.")
def command(run: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Crafts an adversarial set: many attacks, epsilons and pairs, as 8-bit PNG files with an index of hashes.

    Attacks by gradients are crafted on the source; --engine adds searches that query it, and attacks on its own
    graph. `check --adversarial SET` judges engines on the set; with --outputs it judges what a target has answered to
    its images, where neither Python nor this tool runs. An interrupted attack goes on when the command is repeated.
    """
    from deploy_robust.app.attack import attack
    from deploy_robust.cli.screen import console, progress_bar
    from deploy_robust.report.wording import printable

    request = attack_request(run=run, **options)
    with progress_bar("crafting", "cases", quiet=quiet or as_json) as progress:
        crafted = attack(request, on_progress=progress)
    if as_json:
        click.echo(json.dumps(_plain(crafted), indent=1))
        return
    if quiet:
        click.echo(printable(str(crafted.set.folder)))
        return
    screen = console()
    screen.print(_table(crafted))
    for note in crafted.notes:
        screen.print(f"note: {printable(note)}", markup=False, soft_wrap=True)
    index = crafted.set.index
    screen.print(
        f"set: {printable(str(crafted.set.folder))}, {len(index.pairs)} clean and {len(index.cases)} attacked images, "
        f"{crafted.set.sha256[:16]}",
        markup=False,
        soft_wrap=True,
    )


def _plain(crafted: Attacked) -> dict[str, Any]:
    return {
        "set": str(crafted.set.folder),
        "sha256": crafted.set.sha256,
        "run": str(crafted.run),
        "pairs": len(crafted.set.index.pairs),
        "cases": len(crafted.set.index.cases),
        "strengths": [asdict(each) for each in crafted.strengths],
        "notes": list(crafted.notes),
    }


def _table(crafted: Attacked) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from deploy_robust.report import wording

    levels = crafted.set.index.levels
    table = Table(
        title="mean PSNR to the clean output, dB",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("attack", no_wrap=True)
    table.add_column("measured on", no_wrap=True)
    for level in levels:
        table.add_column(wording.epsilon(level), justify="right", no_wrap=True)
    found = {(each.attack, each.level): each for each in crafted.strengths}
    for name in crafted.set.index.attacks:
        row = [found[name, level] for level in levels]
        table.add_row(Text(wording.printable(name)), row[0].role, *(wording.number(each.drift_db) for each in row))
    return table
