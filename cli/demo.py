"""``deploy-robust demo``: the whole path on embedded data."""

from __future__ import annotations

from pathlib import Path

import click

from deploy_robust.cli import exit_codes


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="runs/demo",
    show_default=True,
    help="Folder for engines and run; repeat the command to go on there.",
)
def command(out: Path) -> int:
    """Exports the shipped network, attacks its INT8 engine on embedded scenes and judges it.

    Exits 0 when the demonstration ran, whatever the verdict; `check` exits with the verdict.
    """
    from deploy_robust.app.demo import demo
    from deploy_robust.cli.export import artefact_table
    from deploy_robust.cli.screen import console, progress_bar
    from deploy_robust.cli.verdict import print_result

    screen = console()
    with progress_bar("attacking", "cases") as progress:
        artefacts, result = demo(
            out, on_step=lambda text: screen.print(f"[dim]{text}[/]", highlight=False), on_progress=progress
        )
    screen.print(artefact_table(artefacts, out / "engines"))
    print_result(result, screen)
    screen.print(f"`deploy-robust check` would exit with {exit_codes.of(result.verdict.status)}", markup=False)
    return exit_codes.PASS
