"""The terminal: one console, progress bars and tables; plain where nobody watches."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from deploy_robust.report.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Task, TaskID

    from deploy_robust.app.screen import Standings
    from deploy_robust.gate.watch import Standing


def console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """A console that obeys NO_COLOR and is plain when its output is no terminal."""
    return Console(quiet=quiet, stderr=stderr, highlight=False)


class _Rate(ProgressColumn):
    """Units a minute over the recent past; a check's cases take seconds each."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing as long as there is none."""
        return Text("" if task.speed is None else f"{task.speed * 60:.1f}/min", style="progress.data.speed")


@contextmanager
def progress_bar(what: str, unit: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on the standard error with rate and time left.

    Yields:
        A function of (done, planned); planned may be None.
    """
    screen = console(quiet=quiet, stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, transient=True, disable=quiet or not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, planned: bar.update(task, completed=done, total=planned)


@contextmanager
def tests_bar(*, quiet: bool) -> Iterator[Callable[[Standings], None]]:
    """Where tests by betting stand, one line each, on the standard error: units, wealth, interval, queries a second.

    Yields:
        A function of the standings.
    """
    screen = console(quiet=quiet, stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("units"))
    shown = TextColumn("{task.fields[standing]}")
    with Progress(*columns, shown, TimeElapsedColumn(), console=screen, disable=quiet or not screen.is_terminal) as bar:
        tasks: list[TaskID] = []

        def show(standings: Standings) -> None:
            for index, test in enumerate(standings.tests):
                if index == len(tasks):
                    tasks.append(bar.add_task(printable(test.name), total=test.most, standing=""))
                bar.update(tasks[index], completed=test.units, standing=_standing(standings, test))

        yield show


def _standing(standings: Standings, test: Standing) -> str:
    at = "" if test.level is None else f"at {test.level:g}/255: "
    against = "" if test.log_fail is None else f", {_wealth(test.log_fail)} for FAIL"
    rate = "" if standings.per_second is None else f", {standings.per_second:.0f} queries/s"
    wealth = f"wealth {_wealth(test.log_pass)} of {_wealth(test.bar)} for PASS{against}"
    return f"{at}{wealth}, interval {test.low:.3g} to {test.high:.3g}{rate}"


def _wealth(log: float) -> str:
    return f"{math.exp(min(log, 50.0)):.3g}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
