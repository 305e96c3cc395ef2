"""``deploy-robust train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from deploy_robust.cli import signals
from deploy_robust.cli.options import Finite
from deploy_robust.cli.training import out_option, print_ending, slice_options, typed, watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from deploy_robust.app.training import TrainingResult
    from deploy_robust.attacks.ascent import Start
    from deploy_robust.training.adversary import Distance
    from deploy_robust.training.loop import StepDone, Validated
    from deploy_robust.training.precision import Precision
    from deploy_robust.training.validation import Score


@click.command("train", context_settings={"show_default": True})
@click.option("--model", default="prenet", help="Network of the zoo.")
@click.option("--preset", default="small", help="Its size.")
@click.option("--data", default="scenes+photos", help="scenes, photos, scenes+photos, or a folder with ground truth.")
@click.option("--pairs", default=448, type=click.IntRange(1), help="Pairs drawn from embedded sources.")
@click.option("--size", default=128, type=click.IntRange(32), help="Side of embedded pairs, pixels.")
@click.option("--held-out", default=16, type=click.IntRange(1), help="Pairs to validate on.")
@out_option
@click.option("--steps", default=2400, type=click.IntRange(1), help="Optimiser steps.")
@click.option("--batch", default=4, type=click.IntRange(1), help="Crops in a step.")
@click.option("--crop", default=64, type=click.IntRange(16), help="Side of a crop, pixels.")
@click.option("--loss", default="paper", help="paper (of the network), or a sum like charbonnier+0.2*ssim.")
@click.option("--rate", default=2e-3, type=Finite(0, min_open=True), help="Highest learning rate.")
@click.option("--seed", default=0, type=int, help="Seed of weights, data and crops.")
@click.option("--validate-every", default=200, type=click.IntRange(1), help="Steps between validations.")
@click.option("--validate-attacked", default=0, type=click.IntRange(0), help="Held-out pairs that PGD attacks, too.")
@click.option("--accumulate", default=1, type=click.IntRange(1), help="Parts of a batch, one after the other.")
@click.option("--average", default=0.0, type=Finite(0, 1, max_open=True), help="Decay of averaged weights.")
@click.option("--clip", default=1.0, type=Finite(0, min_open=True), help="Longest gradient.")
@click.option(
    "--precision",
    default="fp32",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Mixed precision: CUDA, or bf16 on a CPU with AVX512-BF16.",
)
@click.option("--init", default=None, help="Weights to start from: a shipped name or a file.  [default: fresh]")
@click.option("--adversarial", is_flag=True, help="Attack the network in every step; what moves is part of the loss.")
@click.option("--adv-weight", default=1.0, type=Finite(0, min_open=True), help="Lambda, the weight of that part.")
@click.option("--adv-epsilon", default=4.0, type=Finite(0, 255, min_open=True), help="Radius in grey levels, n/255.")
@click.option("--adv-steps", default=4, type=click.IntRange(1), help="Iterations of the inner PGD.")
@click.option("--adv-step-ratio", default=0.5, type=Finite(0, min_open=True), help="Its step, a share of epsilon.")
@click.option(
    "--adv-start",
    default="uniform",
    type=click.Choice(["uniform", "corners", "zero"]),
    help="Where it begins: drawn in the ball, or a corner of it. Zero has no gradient and is refused.",
)
@click.option(
    "--adv-distance", default="mse", type=click.Choice(["mse", "norm"]), help="Squared distance, or its root."
)
@click.option("--adv-detach", is_flag=True, help="Take the clean answer as fixed instead of moving it, too.")
@click.option("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
@slice_options
@click.option(
    "--tensorboard", default=None, type=click.Path(path_type=Path), help="Folder for TensorBoard's curves, too."
)
def command(
    model: str,
    preset: str,
    data: str,
    pairs: int,
    size: int,
    held_out: int,
    out: Path,
    steps: int,
    batch: int,
    crop: int,
    loss: str,
    rate: float,
    seed: int,
    validate_every: int,
    validate_attacked: int,
    accumulate: int,
    average: float,
    clip: float,
    precision: str,
    init: str | None,
    adversarial: bool,
    adv_weight: float,
    adv_epsilon: float,
    adv_steps: int,
    adv_step_ratio: float,
    adv_start: str,
    adv_distance: str,
    adv_detach: bool,
    device: str,
    threads: int | None,
    max_minutes: float | None,
    restart: bool,
    tensorboard: Path | None,
) -> None:
    """Train a network; repeat the command to go on with an interrupted training.

    State and log (one JSON line a step) live beside OUT, in a folder with the suffix .state. The weights are written at
    the end, with the record of how they came about.
    """
    from rich.console import Console

    from deploy_robust.app.train import TrainingData, TrainingRequest, train
    from deploy_robust.models.registry import MODELS
    from deploy_robust.training.adversary import Adversary
    from deploy_robust.training.plan import TrainingPlan
    from deploy_robust.training.validation import AttackedValidation

    MODELS.spec(model)  # before a progress bar is shown
    adversary = Adversary(
        epsilon=adv_epsilon,
        iterations=adv_steps,
        step_ratio=adv_step_ratio,
        start=cast("Start", adv_start),
        distance=cast("Distance", adv_distance),
        detach=adv_detach,
    )
    plan = TrainingPlan(
        steps=steps,
        batch=batch,
        crop=crop,
        seed=seed,
        loss=loss,
        rate=rate,
        final_rate=rate / 200,
        warmup=min(50, steps // 10),
        validate_every=validate_every,
        attacked=AttackedValidation(pairs=validate_attacked),
        accumulate=accumulate,
        average=average,
        clip=clip,
        precision=cast("Precision", precision),
        adversary=adversary if adversarial else None,
        adversary_weight=adv_weight,
    )
    request = TrainingRequest(
        model=model,
        preset=preset,
        plan=plan,
        data=TrainingData(what=data, pairs=pairs, size=(size, size), held_out=held_out, seed=seed),
        out=out,
        init=init,
        device=device,
        threads=threads,
        max_minutes=max_minutes,
        restart=restart,
        tensorboard=tensorboard,
        command=typed(),
    )
    with watching(steps, drawing="pairs", detail=_detail(), validation=_validation) as watcher:
        result = train(request, watcher)
    if result.ending == "interrupted":
        raise signals.asked()
    _print(result, out, Console())


def _detail() -> Callable[[StepDone], str]:
    """What is said of a step: its loss, and the speed since the first one."""
    first: list[StepDone] = []

    def detail(event: StepDone) -> str:
        first[:] = first or [event]
        elapsed = event.seconds - first[0].seconds
        speed = f"{(event.step - first[0].step) / elapsed:.2f} steps/s" if elapsed > 0 else ""
        return f"loss {event.loss:.4f}  {speed}"

    return detail


def _validation(event: Validated[Score]) -> str:
    score = event.score
    attacked = "" if score.attacked_psnr is None else f", {score.attacked_psnr:.2f} dB under attack"
    return f"step {event.step}: held-out PSNR {score.output_psnr:.2f} dB ({score.gain:+.2f} dB over the rain){attacked}"


def _print(result: TrainingResult[Score], out: Path, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{result.ending}: step {result.step} of {result.steps}")
    for heading in ("step", "rainy input, dB", "output, dB", "gain, dB", "minutes"):
        table.add_column(heading, justify="right")
    for point in result.curve:
        score = point.score
        table.add_row(
            str(point.step),
            f"{score.input_psnr:.2f}",
            f"{score.output_psnr:.2f}",
            f"{score.gain:+.2f}",
            f"{point.seconds / 60:.1f}",
        )
    console.print(table)
    print_ending(result, out, console)
