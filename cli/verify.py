"""``deploy-robust verify``: test by queries alone how often an engine breaks."""

from __future__ import annotations

from typing import Any

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.check_options import check_request, network_options, running_options
from deploy_robust.cli.claim_options import claim, claim_options
from deploy_robust.cli.io_options import io_options
from deploy_robust.cli.options import FILE, units_options


@click.command(name="verify")
@network_options(required=True)
@claim_options
@units_options
@click.option("--out", type=FILE, default="runs/verify", show_default=True, help="Run folder; repeat to go on there.")
@running_options
@io_options
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def command(as_json: bool, quiet: bool, **options: Any) -> int:
    """Tests how often a suite of attacks breaks an engine on fresh scenes.

    The attacks need no gradients: they ask the engine. Each unit (an independent scene, or an image of a folder)
    fails where the suite breaks the property. Bets against the failure rate p0 decide, unit by unit and in an
    order that is registered before the first query: PASS says that the rate is below p0, FAIL that it is above,
    each wrong with probability alpha at most. Repeat the command to go on; more --units continue the same test.

    Exit codes: 0 PASS, 1 FAIL, 2 trouble, 3 INCONCLUSIVE.
    """
    from deploy_robust.app.verify import verify
    from deploy_robust.cli.screen import console, tests_bar
    from deploy_robust.cli.verdict import print_result

    asked = claim(options)
    with tests_bar(quiet=quiet or as_json) as show:
        result = verify(asked, check_request(**options), on_standing=show)
    print_result(result, console(), as_json=as_json, quiet=quiet)
    return exit_codes.of(result.verdict.status)
