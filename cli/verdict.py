"""How a command that ends with a verdict shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy_robust.report.terminal import baseline_table, downstream_table, requirement_table, verdict_panel

if TYPE_CHECKING:
    from rich.console import Console

    from deploy_robust.app.judge import CheckResult
    from deploy_robust.report.records import Summary


def print_result(result: CheckResult, screen: Console, *, as_json: bool = False, quiet: bool = False) -> None:
    """Prints report.json, or the verdict's sentence, or the tables and where the report lies."""
    if as_json:
        click.echo(result.reports["json"].read_text(encoding="utf-8"))
        return
    if quiet:
        click.echo(result.verdict.sentence)
        return
    print_tables(result.summary, screen)
    screen.print(f"report: {result.reports['html']}", soft_wrap=True, markup=False)
    if "counterexamples" in result.reports:
        screen.print(f"counterexamples: {result.reports['counterexamples']}", soft_wrap=True, markup=False)


def print_tables(summary: Summary, screen: Console) -> None:
    """Prints what was required and measured, and what came of it."""
    tables = (requirement_table(summary), baseline_table(summary), downstream_table(summary))
    for shown in (*tables, verdict_panel(summary)):
        if shown is not None:
            screen.print(shown)
