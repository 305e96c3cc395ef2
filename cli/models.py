"""``deploy-robust models``: the networks of the zoo, their presets and what they cost."""

from __future__ import annotations

import click

from deploy_robust.cli import exit_codes


@click.command(name="models")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Lists the networks of the zoo (or those NAMEd): presets, parameters, cost, sizes, references, licences.

    GMACs are 1e9 multiply-accumulates for one image of 480x320.
    """
    import dataclasses
    import json

    from rich.markup import escape
    from rich.table import Table

    from deploy_robust.app.models import model_rows
    from deploy_robust.cli.screen import console

    rows = model_rows(names)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return exit_codes.PASS
    screen = console()

    presets = Table("model", "preset", title="Networks", title_justify="left")
    for heading in ("parameters", "as published", "GMACs"):
        presets.add_column(heading, justify="right")
    presets.add_column("sizes")
    presets.add_column("range inside")
    presets.add_column("official weights")
    references = Table("model", "reference", "official weights' licence", title="References", title_justify="left")
    seen = None
    for row in rows:
        low, high = row.native_range
        presets.add_row(
            "" if row.name == seen else row.name,
            row.preset,
            f"{row.parameters:,}",
            f"{row.published_parameters:,}",
            f"{row.gmacs:.2f}",
            row.size_rule,
            f"{low:g}..{high:g} {row.native_colour}",
            "fit" if row.official_weights else "",
        )
        if row.name != seen:
            references.add_row(row.name, escape(row.reference), escape(row.official_licence))
        seen = row.name
    for table in (presets, references):
        screen.print(table)
        screen.print()
    return exit_codes.PASS
