"""``deploy-robust check``: attack and judge a deployed engine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.engine_options import engine_options, engine_request
from deploy_robust.cli.io_options import io_options, io_overrides
from deploy_robust.cli.options import FILE, pairs_options, pairs_request

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.app.check import CheckRequest


@click.command(name="check")
@click.option(
    "--engine", required=True, type=FILE, help="The engine's file: .onnx, .xml, .pt2, or .safetensors weights."
)
@click.option(
    "--source",
    metavar="NAME|FILE|MODULE:FACTORY",
    help="The differentiable network that the engine was made from. [default: the weights beside the engine]",
)
@click.option("--source-checkpoint", type=FILE, help="Weights for the network of MODULE:FACTORY.")
@click.option("--model", help="Zoo name of the source, where it is an official .pth file.")
@click.option("--preset", help="Preset of the source, likewise.")
@pairs_options
@click.option(
    "--policy", default="default", show_default=True, help="Shipped policy (default, unpaired) or a TOML file."
)
@click.option("--out", type=FILE, default="runs/check", show_default=True, help="Run folder; repeat to go on there.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Keys all random draws.")
@click.option("--device", default="cpu", show_default=True, help="Where source and engine run: cpu, cuda, cuda:1.")
@engine_options
@click.option("--threads", type=click.IntRange(min=1), help="Threads on the CPU, for attack and engine.")
@click.option("--batch", type=click.IntRange(min=1), help="Pairs in a batch. [default: 1 on a CPU, 8 on a GPU]")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Images attacked together; fewer need less memory. [default: all epsilons of the batch]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that one call of the engine may take before it counts as hanging.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(min=0),
    metavar="M",
    help="Stop after so long; what is open then makes the verdict INCONCLUSIVE at best.",
)
@click.option("--dry-run", is_flag=True, help="Say what the check would do and cost, measured on one batch, and stop.")
@io_options
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of tables.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def command(
    engine: Path,
    source: str | None,
    source_checkpoint: Path | None,
    model: str | None,
    preset: str | None,
    policy: str,
    out: Path,
    seed: int,
    device: str,
    threads: int | None,
    batch: int | None,
    rows: int | None,
    timeout: float,
    max_minutes: float | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Attacks an engine, measures it, judges it.

    Clean parity with the source comes first. Then every image is attacked at every epsilon of the policy (PGD
    crafted on the source, uniform noise, random corners), delivered as 8 bits, run through the engine and
    measured. The run folder holds every measurement and the reports; an interrupted check goes on where it
    stopped.

    Exit codes: 0 PASS, 1 FAIL, 2 trouble, 3 INCONCLUSIVE.
    """
    from deploy_robust.app.check import CheckRequest, check
    from deploy_robust.app.networks import EngineRequest, SourceRequest
    from deploy_robust.cli.screen import console, progress_bar
    from deploy_robust.cli.verdict import print_result

    io = io_overrides(options)
    how, kind = engine_request(options, device=device, threads=threads)
    request = CheckRequest(
        engine=EngineRequest(engine, how, io, kind),
        source=SourceRequest(source, source_checkpoint, model, preset, device),
        pairs=pairs_request(seed=seed, **options),
        policy=policy,
        out=out,
        seed=seed,
        threads=threads,
        pairs_per_batch=batch,
        rows=rows,
        timeout=timeout,
        max_minutes=max_minutes,
    )
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
    from deploy_robust.cli.screen import console
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
        ("time", f"about {_duration(found.seconds)} if all images are that large, without the reports"),
        ("memory", f"{found.memory_bytes / 1e9:.2f} GB on the host at the most"),
        *(("cannot pass", cap) for cap in found.caps),
    ):
        table.add_row(name, Text(printable(text)))
    console().print(table)
    return exit_codes.PASS


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
