"""The few lines under the verdict: where it comes from and what to run next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy_robust.gate.records import Status
from deploy_robust.report.wording import epsilons, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy_robust.report.records import OutcomeRow


def because(outcomes: Iterable[OutcomeRow]) -> tuple[str, ...]:
    """One line for each requirement that did not pass and each cause of it, failures first.

    Epsilons that share a cause share a line, which quotes the figures of the worst of them.
    """
    groups: dict[tuple[str, str, str], list[OutcomeRow]] = {}
    for row in _not_passed(outcomes):
        if row.explanation is not None:
            groups.setdefault((row.requirement, row.status, row.explanation.cause), []).append(row)
    lines = []
    for (name, _, _), rows in groups.items():
        worst = min(rows, key=lambda row: math.inf if row.margin is None else row.margin)
        levels = [row.level for row in rows if row.level is not None]
        where = f" at {epsilons(levels)}" if levels else ""
        short = "" if worst.explanation is None else worst.explanation.short
        lines.append(f"{printable(name)}{where}: {printable(short)}.")
    return tuple(lines)


def next_steps(outcomes: Iterable[OutcomeRow]) -> tuple[tuple[str, str], ...]:
    """The commands that the explanations advise, failures first, each once with its first purpose."""
    steps: dict[str, str] = {}
    for row in _not_passed(outcomes):
        if row.explanation is not None and row.explanation.command:
            steps.setdefault(row.explanation.command, row.explanation.purpose)
    return tuple(steps.items())


def _not_passed(outcomes: Iterable[OutcomeRow]) -> list[OutcomeRow]:
    rows = [row for row in outcomes if row.status is not Status.PASS]
    return sorted(rows, key=lambda row: row.status is not Status.FAIL)  # stable: policy order within each
