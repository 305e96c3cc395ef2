"""``deploy-robust train-vision``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deploy_robust.cli import signals
from deploy_robust.cli.options import Finite
from deploy_robust.cli.training import out_option, print_ending, slice_options, typed, watching

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.training.loop import StepDone, Validated
    from deploy_robust.training.vision.validation import VisionScore


@click.command("train-vision", context_settings={"show_default": True})
@click.argument("name", type=click.Choice(["segmenter", "detector"]))
@click.option("--preset", default="small", help="Its size.")
@out_option
@click.option("--scenes", default=600, type=click.IntRange(1), help="Embedded scenes to learn from.")
@click.option("--size", "sizes", default=(64, 96, 128), multiple=True, type=click.IntRange(32), help="Their sides.")
@click.option("--held-out", default=24, type=click.IntRange(1), help="Scenes to validate on.")
@click.option("--steps", default=3000, type=click.IntRange(1), help="Optimiser steps.")
@click.option("--batch", default=8, type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", default=96, type=click.IntRange(32), help="Side of a crop, pixels.")
@click.option("--rate", default=3e-3, type=Finite(0, min_open=True), help="Highest learning rate.")
@click.option("--left-rain", default=0.35, type=Finite(0, 1), help="Greatest share of rain left in images.")
@click.option("--noise", default=4.0, type=Finite(0, 255), help="Greatest noise in them, grey levels.")
@click.option("--light", default=0.1, type=Finite(0, 0.5, max_open=True), help="Greatest change of light.")
@click.option("--seed", default=0, type=int, help="Seed of weights, scenes and crops.")
@click.option("--validate-every", default=500, type=click.IntRange(1), help="Steps between validations.")
@slice_options
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
    left_rain: float,
    noise: float,
    light: float,
    seed: int,
    validate_every: int,
    threads: int | None,
    max_minutes: float | None,
    restart: bool,
) -> None:
    """Train a network that looks at derained images; repeat the command to go on with an interrupted training.

    It learns from clean embedded scenes with some rain and noise left in them, or from clear ones alone (--left-rain 0
    --noise 0). State and log (one JSON line a step) live beside OUT, in a folder with the suffix .state. The weights
    are written at the end, with the record of how they came about.
    """
    from rich.console import Console

    from deploy_robust.app.train_vision import VisionTraining, train_vision
    from deploy_robust.training.vision.samples import Seeing
    from deploy_robust.training.vision.trainer import VisionPlan

    seeing = Seeing(rain=left_rain, noise=noise, light=light)
    request = VisionTraining(
        name=name,
        preset=preset,
        plan=VisionPlan(
            steps=steps, batch=batch, crop=crop, seed=seed, rate=rate, warmup=min(50, steps // 10), seeing=seeing
        ),
        out=out,
        scenes=scenes,
        sizes=sizes,
        held_out=held_out,
        validate_every=validate_every,
        threads=threads,
        max_minutes=max_minutes,
        restart=restart,
        command=typed(),
    )
    with watching(steps, drawing="scenes", detail=_detail, validation=_validation) as watcher:
        result = train_vision(request, watcher)
    if result.ending == "interrupted":
        raise signals.asked()
    console = Console()
    console.print(f"{result.ending}: step {result.step} of {result.steps}")
    print_ending(result, out, console)


def _detail(event: StepDone) -> str:
    return _figures(event.terms)


def _validation(event: Validated[VisionScore]) -> str:
    score = event.score
    return f"step {event.step}, held out: clean: {_figures(score.clean)}; rain: {_figures(score.rainy)}"


def _figures(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())
