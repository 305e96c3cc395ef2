"""The terminal: one console, progress bars and tables; plain where nobody watches."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Task


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
