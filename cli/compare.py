"""``deploy-robust compare``: engines against each other, clean and attacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli import exit_codes
from deploy_robust.cli.engine_specs import parse_engine, parse_source
from deploy_robust.cli.options import FILE, Finite, pairs_options, pairs_request
from deploy_robust.cli.running import BATCH, DEVICE, ROWS, SEED, THREADS, TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.app.compare import Compared


@click.command(name="compare")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    required=True,
    metavar="FILE[,KEY=VALUE...]",
    help="An engine; once for each. Keys: name, and check's options for its engine: runtime=openvino, range=0,255 ...",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    default=("own", "literal"),
    show_default=True,
    metavar="own|literal|shipped|NAME|FILE|MODULE:FACTORY",
    help="What attacks are crafted on: each engine's own network, its graph read literally, all shipped weights, or "
    "one network; once for each.",
)
@pairs_options
@click.option("--policy", default="default", show_default=True, help="Attacks, epsilons and parity bounds.")
@click.option(
    "--rebuild",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Builds of each engine, this one included: what a figure owes to the luck of a build.",
)
@click.option(
    "--max-gap",
    type=Finite(min=0, min_open=True),
    metavar="DB",
    help="Exit with 1 unless every engine stays within so many dB of what it was made from, and its parity holds.",
)
@click.option("--out", type=FILE, default="runs/compare", show_default=True, help="Run folder; repeat to go on there.")
@SEED
@DEVICE
@THREADS
@BATCH
@ROWS
@TIMEOUT
@click.option(
    "--max-minutes",
    type=Finite(min=0),
    metavar="M",
    help="Stop after so long (exit code 3); repeat to go on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print compare.json instead of tables.")
@click.option("--quiet", "-q", is_flag=True, help="Print where the report lies only.")
def command(
    engines: tuple[str, ...],
    sources: tuple[str, ...],
    policy: str,
    rebuild: int,
    max_gap: float | None,
    out: Path,
    seed: int,
    device: str,
    threads: int | None,
    batch: int | None,
    rows: int | None,
    timeout: float,
    max_minutes: float | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Sets engines side by side: parity, robustness under attacks from several sources, agreement, repeatability.

    Every engine sees the same attacked images. An engine whose parity is broken looks robust because it is damaged: its
    figures under attack are struck out, with the reason.

    Exit codes: 0 done, 1 a bound of --max-gap does not hold, 2 trouble, 3 stopped by --max-minutes.
    """
    from deploy_robust.app.compare import GROUPS, CompareRequest, compare
    from deploy_robust.cli.screen import console, progress_bar

    request = CompareRequest(
        engines=tuple(parse_engine(text, device=device, threads=threads) for text in engines),
        out=out,
        groups=tuple(text for text in dict.fromkeys(sources) if text in GROUPS),
        sources=tuple(parse_source(text) for text in dict.fromkeys(sources) if text not in GROUPS),
        pairs=pairs_request(seed=seed, **options),
        policy=policy,
        rebuild=rebuild,
        max_gap=max_gap,
        device=device,
        seed=seed,
        threads=threads,
        pairs_per_batch=batch,
        rows=rows,
        timeout=timeout,
        max_minutes=max_minutes,
    )
    aside = console(stderr=True, quiet=quiet or as_json or not console(stderr=True).is_terminal)

    def tell(step: str) -> None:
        aside.print(step, style="dim", markup=False)

    with progress_bar("comparing", "cases", quiet=quiet or as_json) as progress:
        result = compare(request, on_progress=progress, on_step=tell)
    _print(result, as_json=as_json, quiet=quiet)
    if not result.comparison.complete:
        return exit_codes.INCONCLUSIVE
    return exit_codes.FAIL if result.comparison.exceeded else exit_codes.PASS


def _print(result: Compared, *, as_json: bool, quiet: bool) -> None:
    from deploy_robust.cli.screen import console
    from deploy_robust.report.comparison.terminal import tables

    if as_json:
        click.echo(result.reports["json"].read_text(encoding="utf-8"))
        return
    screen = console()
    if not quiet:
        for shown in tables(result.comparison):
            screen.print(shown)
    for line in result.comparison.exceeded:
        screen.print(f"beyond --max-gap: {line.engine}: {line.reason}", markup=False, soft_wrap=True)
    screen.print(f"report: {result.reports['html']}", soft_wrap=True, markup=False)
