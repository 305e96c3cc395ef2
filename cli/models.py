"""``deploy-robust models``: the networks of the zoo, their presets and what they cost."""

from __future__ import annotations

import click

from deploy_robust.cli import exit_codes


@click.command(name="models")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Lists the networks of the zoo (or those NAMEd): presets, parameters, cost, sizes, references, licences.

    GMACs are 1e9 multiply-accumulates for one image of 480x320; "published" also counts what the authors' code holds
    and never uses; "fit" marks presets that the authors' weights fit.
    """
    import dataclasses
    import json

    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from deploy_robust.app.models import model_rows
    from deploy_robust.cli.screen import console

    with console(stderr=True, quiet=as_json).status("counting multiplications"):
        rows = model_rows(names)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return exit_codes.PASS
    screen = console()

    presets = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("model", "preset"):
        presets.add_column(heading, no_wrap=True)
    for heading in ("parameters", "published", "GMACs"):
        presets.add_column(heading, justify="right", no_wrap=True)
    presets.add_column("weights")
    networks = Table("model", "facts", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    seen = None
    for row in rows:
        first = row.name != seen
        presets.add_row(
            row.name if first else "",
            row.preset,
            f"{row.parameters:,}",
            f"{row.published_parameters:,}",
            f"{row.gmacs:.2f}",
            "fit" if row.official_weights else "",
        )
        if first:
            low, high = row.native_range
            facts = (
                f"{row.reference}\nheight and width: {row.size_rule}; inside: {low:g}..{high:g} {row.native_colour}; "
                f"licence of the official weights: {row.official_licence}"
            )
            networks.add_row(row.name, escape(facts))
        seen = row.name
    for table in (presets, networks):
        screen.print(table)
    return exit_codes.PASS
