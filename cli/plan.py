"""``deploy-robust plan``: what a `verify` will need."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.check_options import check_request, network_options, running_options
from deploy_robust.cli.claim_options import claim, claim_options
from deploy_robust.cli.io_options import io_options
from deploy_robust.cli.options import Finite, units_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.app.plan import Plan


@click.command(name="plan")
@click.option(
    "--expect", type=Finite(), default=0.0, show_default=True, help="Failure rate that you expect of the engine."
)
@claim_options
@network_options(required=False)
@units_options
@running_options
@io_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(expect: float, as_json: bool, **options: Any) -> int:
    """Says how many scenes and queries a `verify` with the same options will need, and how it may end.

    The chances are computed exactly, by a dynamic programme over units and failures. With --engine one batch is
    measured, and nothing of it is kept: then the time is estimated, too.
    """
    from deploy_robust.app.plan import plan
    from deploy_robust.cli.screen import console

    asked, most = claim(options), options["limit"]
    request = None if options["engine"] is None else check_request(out=Path(), **options)
    with console(stderr=True).status("measuring one batch" if request else "computing"):
        found = plan(asked, expect, most=most, request=request)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return exit_codes.PASS
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, text in _lines(found):
        table.add_row(name, Text(text))
    console().print(table)
    return exit_codes.PASS


def _lines(found: Plan) -> Iterator[tuple[str, str]]:
    from deploy_robust.cli.screen import duration
    from deploy_robust.report.wording import printable

    yield "claim", f"failure rate below {found.p0:g}, wrong with probability {found.alpha:.3g} at most"
    yield "expected", f"failure rate {found.expect:g}; at most {found.most} scenes"
    yield "ends", f"PASS {found.passes:.1%}, FAIL {found.fails:.1%}, INCONCLUSIVE {found.open:.1%}"
    yield (
        "scenes",
        f"{found.mean_units:.0f} on average; {found.median_units} half, {found.units_90} nine tenths of the time",
    )
    queries = found.queries_per_unit
    yield (
        "queries",
        f"{queries * found.mean_units:,.0f} on average, {queries:,} a scene, {queries * found.most:,} at most",
    )
    passing = [f"{k} at {n}" for k, n in enumerate(found.boundary) if n is not None]
    yield "passes with", f"failures at scenes: {', '.join(passing)}"
    if found.unit_seconds is not None:
        mean, most = (found.load_seconds + found.unit_seconds * n for n in (found.mean_units, found.most))
        yield "engine", printable(found.engine)
        yield "time", f"{duration(mean)} on average, {duration(most)} at most ({found.unit_seconds:.2g} s a scene)"
