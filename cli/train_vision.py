"""``deploy-robust train-vision``."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console

    from deploy_robust.app.train_vision import VisionTrained, VisionTraining
    from deploy_robust.training.vision.trainer import VisionStep, VisionValidated


@click.command("train-vision", context_settings={"show_default": True})
@click.argument("name", type=click.Choice(["segmenter", "detector"]))
@click.option("--preset", default="small", help="Its size.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Weights to write, .safetensors.")
@click.option("--scenes", default=600, type=click.IntRange(1), help="Embedded scenes to learn from.")
@click.option("--size", "sizes", default=(64, 96, 128), multiple=True, type=click.IntRange(32), help="Their sides.")
@click.option("--held-out", default=24, type=click.IntRange(1), help="Scenes to validate on.")
@click.option("--steps", default=3000, type=click.IntRange(1), help="Optimiser steps.")
@click.option("--batch", default=8, type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", default=96, type=click.IntRange(32), help="Side of a crop, pixels.")
@click.option("--rate", default=3e-3, type=click.FloatRange(0, min_open=True), help="Highest learning rate.")
@click.option("--seed", default=0, type=int, help="Seed of weights, scenes and crops.")
@click.option("--validate-every", default=500, type=click.IntRange(1), help="Steps between validations.")
@click.option("--threads", default=None, type=click.IntRange(1), help="CPU threads; keep the number to go on exactly.")
@click.option("--max-minutes", default=None, type=click.FloatRange(0), help="Stop after this long; go on another time.")
@click.option("--restart", is_flag=True, help="Throw away the state of an earlier call with the same --out.")
def command(
    name: str,
    preset: str,
    out: Path,
    scenes: int,
    sizes: tuple[int, ...],
    held_out: int,
    steps: int,
    batch: int,
    crop: int,
    rate: float,
    seed: int,
    validate_every: int,
    threads: int | None,
    max_minutes: float | None,
    restart: bool,
) -> None:
    """Train a network that looks at derained images; repeat the command to go on with an interrupted training.

    It learns from clean embedded scenes with some rain and noise left in them. State lives beside OUT, in a folder with
    the suffix .state. The weights are written at the end, with the record of how they came about.
    """
    from rich.console import Console

    from deploy_robust.app.train_vision import VisionTraining
    from deploy_robust.training.vision.trainer import VisionPlan

    request = VisionTraining(
        name=name,
        preset=preset,
        plan=VisionPlan(steps=steps, batch=batch, crop=crop, seed=seed, rate=rate, warmup=min(50, steps // 10)),
        out=out,
        scenes=scenes,
        sizes=sizes,
        held_out=held_out,
        validate_every=validate_every,
        threads=threads,
        max_minutes=max_minutes,
        restart=restart,
        command=shlex.join(["deploy-robust", *sys.argv[1:]]),
    )
    result = _run(request, Console(stderr=True))
    if result.ending == "interrupted":
        raise KeyboardInterrupt
    console = Console()
    console.print(f"{result.ending}: step {result.step} of {steps}")
    if result.weights is None:
        console.print("the same command goes on from here")
    else:
        console.print(f"weights: {out}  (sha256 {result.weights.weights_sha256[:16]})")


def _run(request: VisionTraining, console: Console) -> VisionTrained:
    """Trains under a progress bar; the first Ctrl-C ends the current step and saves, a second one kills."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deploy_robust.app.train_vision import train_vision
    from deploy_robust.training.vision.trainer import VisionStep

    stopping = False

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(number, signal.SIG_DFL)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        drawing = progress.add_task("drawing scenes", total=None, detail="")
        training = progress.add_task("training", total=request.plan.steps, detail="")

        def on_event(event: VisionStep | VisionValidated) -> None:
            if isinstance(event, VisionStep):
                detail = ", ".join(f"{name} {value:.3f}" for name, value in event.terms.items())
                progress.update(training, completed=event.step, detail=detail)
            else:
                said = (
                    f"{image}: " + ", ".join(f"{name} {value:.3f}" for name, value in score.items())
                    for image, score in (("clean", event.score.clean), ("rain", event.score.rainy))
                )
                progress.console.print(f"step {event.step}, held out: {'; '.join(said)}", highlight=False)

        handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return train_vision(
                request,
                on_pair=lambda done, total: progress.update(drawing, completed=done, total=total),
                on_event=on_event,
                stop=lambda: stopping,
            )
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
