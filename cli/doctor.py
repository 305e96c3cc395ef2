"""``deploy-robust doctor``: what is installed, and which engines really run here."""

from __future__ import annotations

import click

from deploy_robust.cli import exit_codes


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(as_json: bool) -> int:
    """Finds out what is installed and which engines really run here, by running each of them once.

    Exits 0 when at least one engine runs, 2 otherwise.
    """
    import dataclasses
    import json

    from rich.markup import escape
    from rich.table import Table

    from deploy_robust.app.doctor import diagnose
    from deploy_robust.cli.screen import console

    found = diagnose()
    works = any(health.works for health in found.engines)
    code = exit_codes.PASS if works else exit_codes.TROUBLE
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return code
    screen = console()

    machine = Table(title="Machine", title_justify="left", show_header=False)
    for name, value in found.machine.items():
        machine.add_row(name, escape(value))
    packages = Table("package", "version", "needed for", title="Packages", title_justify="left")
    for package in found.packages:
        packages.add_row(package.name, package.version or "[dim]not installed[/]", escape(package.purpose))
    engines = Table("engine", "runs here", "detail", title="Engines, each tried", title_justify="left")
    for health in found.engines:
        engines.add_row(health.name, "[green]yes[/]" if health.works else "[red]no[/]", escape(health.detail))
    for table in (machine, packages, engines):
        screen.print(table)
        screen.print()
    for line in found.advice:
        screen.print(f"- {escape(line)}")
    return code
