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
    """Exports two shipped networks, attacks their INT8 engines on embedded scenes and judges them.

    One was trained on rain alone, the other one against an adversary, too. Exits 0 when the demonstration ran, whatever
    the verdicts; `check` exits with the verdict.
    """
    from deploy_robust.app.demo import TWINS, demo
    from deploy_robust.cli.export import artefact_table
    from deploy_robust.cli.screen import console, progress_bar
    from deploy_robust.cli.verdict import print_result

    screen = console()
    shown = []
    with progress_bar("attacking", "cases") as progress:
        for twin in demo(
            out, on_step=lambda text: screen.print(f"[dim]{text}[/]", highlight=False), on_progress=progress
        ):
            screen.print(artefact_table(twin.artefacts, twin.folder))
            shown.append(twin)
    for twin in shown:
        screen.rule(f"{twin.name}: {TWINS[twin.name]}")
        print_result(twin.result, screen)
        code = exit_codes.of(twin.result.verdict.status)
        screen.print(f"`deploy-robust check` would exit with {code}", markup=False)
    return exit_codes.PASS
