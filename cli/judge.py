"""``deploy-robust judge``: a verdict from stored measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.options import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(name="judge")
@click.argument("run", type=FILE)
@click.option(
    "--policy", default="default", show_default=True, help="Shipped policy (default, unpaired) or a TOML file."
)
@click.option("--out", type=FILE, help="Folder for the reports. [default: the run folder]")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def command(run: Path, policy: str, out: Path | None, as_json: bool, quiet: bool) -> int:
    """Judges the measurements of RUN by another policy, without running anything.

    The policy may bound other figures and ask for fewer attacks and epsilons than the run has measured, and not for
    more. The reports are written anew.

    Exit codes: 0 PASS, 1 FAIL, 2 trouble, 3 INCONCLUSIVE.
    """
    from deploy_robust.app.judge import judge_again
    from deploy_robust.cli.screen import console
    from deploy_robust.cli.verdict import print_result

    result = judge_again(run, policy, out)
    print_result(result, console(), as_json=as_json, quiet=quiet)
    return exit_codes.of(result.verdict.status)
