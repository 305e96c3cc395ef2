"""What all commands that train have in common: their options, the progress they show, and how they end."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli import signals
from deploy_robust.cli.options import Finite, stacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.console import Console

    from deploy_robust.app.training import TrainingResult, Watcher
    from deploy_robust.training.loop import StepDone, Validated

F = TypeVar("F", bound="Callable[..., Any]")
S = TypeVar("S")

out_option = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Weights to write, .safetensors."
)


def slice_options(command: F) -> F:
    """Adds the options that say how far a call takes a training."""
    return stacked(
        command,
        click.option(
            "--threads", default=None, type=click.IntRange(1), help="CPU threads; keep the number to go on exactly."
        ),
        click.option("--max-minutes", default=None, type=Finite(0), help="Stop after this long; go on another time."),
        click.option("--restart", is_flag=True, help="Throw away the state of an earlier call with the same --out."),
    )


def typed() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["deploy-robust", *sys.argv[1:]])


@contextmanager
def watching(
    steps: int,
    *,
    drawing: str,
    detail: Callable[[StepDone], str],
    validation: Callable[[Validated[S]], str],
) -> Iterator[Watcher[S]]:
    """Shows how a training goes; the first Ctrl-C ends the current step and saves, a second one kills.

    Args:
        steps: Steps in all.
        drawing: What is drawn first.
        detail: What the bar says of a step.
        validation: The line that stays of a validation.

    Yields:
        What the use case tells.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy_robust.app.training import Watcher
    from deploy_robust.training.loop import StepDone

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress, _interrupts() as stop:
        drawn = progress.add_task(f"drawing {drawing}", total=None, detail="")
        trained = progress.add_task("training", total=steps, detail="")

        def on_event(event: StepDone | Validated[S]) -> None:
            if isinstance(event, StepDone):
                progress.update(trained, completed=event.step, detail=detail(event))
            else:
                progress.console.print(validation(event), highlight=False)

        yield Watcher(
            on_pair=lambda done, total: progress.update(drawn, completed=done, total=total),
            on_event=on_event,
            on_note=progress.console.print,
            stop=stop,
        )


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether a signal asked to stop; a second one of its kind does what it does elsewhere."""
    stopping = False

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        signals.note(number)
        signal.signal(number, signal.SIG_DFL)

    handlers = {number: signal.signal(number, on_signal) for number in signals.ENDING}
    try:
        yield lambda: stopping
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def print_ending(result: TrainingResult[Any], out: Path, console: Console) -> None:
    """What is there now, and what to do next."""
    if result.weights is None:
        console.print("the same command goes on from here")
    else:
        console.print(f"weights: {out}  (sha256 {result.weights.weights_sha256[:16]})")
    console.print(f"log: {result.log}")
