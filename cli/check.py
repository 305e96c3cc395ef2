"""``deploy-robust check``: attack and judge a deployed engine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.check_options import check_request, network_options, running_options
from deploy_robust.cli.crafting_options import crafting_options
from deploy_robust.cli.io_options import io_options
from deploy_robust.cli.options import FILE, pairs_options
from deploy_robust.cli.set_options import set_options

if TYPE_CHECKING:
    from deploy_robust.app.check import CheckRequest


@click.command(name="check")
@network_options(required=False)
@set_options
@pairs_options
@click.option(
    "--policy", default="default", show_default=True, help="Shipped policy (default, unpaired) or a TOML file."
)
@click.option(
    "--downstream",
    multiple=True,
    metavar="NAME|FILE",
    help="A network that looks at the outputs, for mIoU or AP: scene-segmenter, scene-detector, or an ONNX file with "
    "its description; once for each task.",
)
@click.option("--out", type=FILE, default="runs/check", show_default=True, help="Run folder; repeat to go on there.")
@crafting_options
@running_options
@click.option("--dry-run", is_flag=True, help="Say what the check would do and cost, measured on one batch, and stop.")
@io_options
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def command(policy: str, dry_run: bool, as_json: bool, quiet: bool, **options: Any) -> int:
    """Attacks an engine, measures it, judges it.

    Clean parity with the source comes first. Then every image is attacked at every epsilon of the policy (PGD
    crafted on the source, uniform noise, random corners), delivered as 8 bits, run through the engine and
    measured. The run folder holds every measurement and the reports; an interrupted check goes on where it
    stopped.

    With --adversarial nothing is crafted: images come from a stored set. With --outputs, too, no engine runs here:
    its answers to that set were recorded on the target.

    Exit codes: 0 PASS, 1 FAIL, 2 trouble, 3 INCONCLUSIVE.
    """
    from deploy_robust.app.check import check
    from deploy_robust.cli.screen import console, progress_bar
    from deploy_robust.cli.verdict import print_result

    request = check_request(policy=policy, **options)
    if dry_run:
        return _dry_run(request, as_json=as_json)
    with progress_bar("attacking", "cases", quiet=quiet or as_json) as progress:
        result = check(request, on_progress=progress)
    print_result(result, console(), as_json=as_json, quiet=quiet)
    return exit_codes.of(result.verdict.status)


def _dry_run(request: CheckRequest, *, as_json: bool) -> int:
    from rich.table import Table
    from rich.text import Text

    from deploy_robust.app.dry_run import estimate
    from deploy_robust.cli.screen import console, duration
    from deploy_robust.report.wording import printable

    with console(stderr=True).status("measuring one batch"):
        found = estimate(request)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return exit_codes.PASS
    table = Table.grid(padding=(0, 2))
    attacks = ", ".join(name if not level else f"{name}@{level:g}" for name, level in found.attacks)
    for name, text in (
        ("cases", f"{found.cases}: {found.pairs} pairs, each {attacks}"),
        ("engine", found.engine),
        ("source", found.source),
        ("one batch", f"{found.batch_seconds:.1f} s for {found.batch} of {found.size[0]}x{found.size[1]} pixels"),
        ("time", f"about {duration(found.seconds)} if all images are that large, without the reports"),
        ("memory", f"{found.memory_bytes / 1e9:.2f} GB on the host at the most"),
        *(("cannot pass", cap) for cap in found.caps),
    ):
        table.add_row(name, Text(printable(text)))
    console().print(table)
    return exit_codes.PASS
