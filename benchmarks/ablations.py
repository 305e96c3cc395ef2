"""The paper's ablations at an equal budget of computing, on small networks: one command, repeated to go on.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --seconds 150 --scenes 4 --seeds 3
    OMP_NUM_THREADS=1 python benchmarks/ablations.py --grid paper --seconds 150 --scenes 4 --seeds 3

Every configuration has the same budget: seconds of CPU time (`time.process_time`, one thread) spent in training. What
a step costs is measured first, in turns over all configurations; the budget divided by it gives the number of steps,
and the learning rate runs its whole course over them. Seeds are the outer loop: a run that was cut off holds all
configurations. A result is written as soon as it is there, and the same command goes on with what is missing.

A result is measured on held-out scenes that no training saw: clean PSNR and SSIM, both under PGD-20 (LMSE, the
network's own gradients, 8 bits) at 1, 2, 4 and 8/255, and the mean over the four (eq. 7 of arXiv 2203.16931).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ablation_summary
import click
import torch
from ablation_grid import GRIDS

from deploy_robust.artefact.files import write_bytes
from deploy_robust.data.photographs import PhotoSource
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.data.select import Cropped
from deploy_robust.metrics.mean_adversarial import PAPER_LEVELS, mean_adversarial
from deploy_robust.metrics.psnr import psnr
from deploy_robust.metrics.ssim import ssim
from deploy_robust.training.adversary import Adversary
from deploy_robust.training.crops import PairPool, to_tensor
from deploy_robust.training.loop import StepDone
from deploy_robust.training.plan import TrainingPlan
from deploy_robust.training.trainer import Trainer
from deploy_robust.training.validation import attacked_answers

if TYPE_CHECKING:
    from ablation_grid import Configuration

RESULTS = Path(__file__).with_name("results")
CROP = 32
RATES = {"rcdnet": 6e-3, "jorder-e": 3e-3}
"""Adam's highest rate, the same for all that are compared with each other; `RATE` for the others."""
RATE = 2e-3
SCENES, PHOTOS, SIDE = 96, 16, 96
HELD_OUT_SIDE = 48
ADVERSARY = Adversary(epsilon=4.0, iterations=2, step_ratio=0.6)
ROUNDS, WARM, TIMED = 3, 1, 3
"""The cost of a step: so many rounds over all configurations, of so many steps after one that is not timed."""


@click.command()
@click.option("--grid", default="small", type=click.Choice(sorted(GRIDS)))
@click.option("--seconds", default=150.0, type=click.FloatRange(0, min_open=True), help="CPU seconds of each training.")
@click.option("--seeds", default=3, type=click.IntRange(1))
@click.option("--scenes", default=4, type=click.IntRange(1), help="Held-out scenes, 48 px.")
@click.option("--summary", is_flag=True, help="Train nothing; say what the results so far say.")
@click.option("--out", default=RESULTS / "ablations.json", type=click.Path(path_type=Path))
@click.option("--plot", default=None, type=click.Path(path_type=Path), help="Draws the results, .png.")
@click.option(
    "--page",
    default=None,
    type=click.Path(path_type=Path),
    help="Puts tables and sentences between the markers of a page.",
)
def main(
    grid: str,
    seconds: float,
    seeds: int,
    scenes: int,
    summary: bool,
    out: Path,
    plot: Path | None,
    page: Path | None,
) -> None:
    """Trains what is missing, writes each result, and prints what the results say."""
    torch.set_num_threads(1)
    recipe = {"crop": CROP, "rates": {**RATES, "others": RATE}, "adversary": ADVERSARY.to_dict()}
    found = _opened(out, {"seconds": seconds, "scenes": scenes, **recipe, "torch": torch.__version__})
    wanted = GRIDS[grid]
    done = {(row["configuration"], row["seed"]) for row in found["rows"]}
    missing = [(c, seed) for seed in range(seeds) for c in wanted if (c.name, seed) not in done]
    if missing and not summary:
        pool = _pool()
        held_out = _held_out(scenes)
        costs = found["cpu_seconds_a_step"]
        unknown = [c for c in wanted if c.name not in costs]
        costs.update(_costs(unknown, pool, held_out))
        _write(out, found)
        for configuration, seed in missing:
            steps = max(10, round(seconds / costs[configuration.name]))
            row = _result(configuration, seed, steps, pool, held_out)
            found["rows"].append(row)
            _write(out, found)
            click.echo(json.dumps(row))
    click.echo(ablation_summary.text(found))
    if page is not None:
        ablation_summary.into_page(page, found)
    if plot is not None:
        ablation_summary.draw(found, plot)


def _opened(out: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """What is in the file; its setting must be this one, since results of another budget cannot be compared."""
    if not out.is_file():
        return {"setting": setting, "cpu_seconds_a_step": {}, "rows": []}
    found: dict[str, Any] = json.loads(out.read_text())
    if found["setting"] != setting:
        raise click.ClickException(f"{out} holds results of {found['setting']}, not of {setting}: choose another --out")
    return found


def _write(out: Path, found: dict[str, Any]) -> None:
    write_bytes(out, (json.dumps(found, indent=1) + "\n").encode())


def _pool() -> PairPool:
    return PairPool.of(
        [
            SceneSource(SCENES, size=(SIDE, SIDE), split="train"),
            PhotoSource(PHOTOS, size=(SIDE, SIDE), split="train"),
        ]
    )


def _held_out(scenes: int) -> PairPool:
    whole = SceneSource(scenes, size=(SIDE, SIDE), split="test")
    return PairPool.of([Cropped(whole, (HELD_OUT_SIDE, HELD_OUT_SIDE), at="keyed")])


def _trainer(
    configuration: Configuration, seed: int, steps: int, pool: PairPool, held_out: PairPool, folder: Path
) -> Trainer:
    torch.manual_seed(seed)
    rate = RATES.get(configuration.model, RATE)
    plan = TrainingPlan(
        steps=steps,
        batch=configuration.batch,
        crop=CROP,
        seed=seed,
        loss=configuration.loss,
        rate=rate,
        final_rate=rate / 200,
        warmup=steps // 20,
        validate_every=steps,
        adversary=ADVERSARY if configuration.adversary else None,
        adversary_weight=configuration.adversary or 1.0,
    )
    return Trainer(configuration.build(), plan, pool, PairPool(held_out.pairs[:1]), folder)


def _costs(configurations: list[Configuration], pool: PairPool, held_out: PairPool) -> dict[str, float]:
    """CPU seconds of one step of each, the median over rounds in turn: a busy machine slows all of them alike."""
    taken: dict[str, list[float]] = {c.name: [] for c in configurations}
    for _ in range(ROUNDS):
        for configuration in configurations:
            with tempfile.TemporaryDirectory() as folder:
                trainer = _trainer(configuration, 0, 1000, pool, held_out, Path(folder))
                ends: list[float] = []
                trainer.run(
                    lambda _, ends=ends: ends.append(time.process_time()), stop=lambda n=ends: len(n) > WARM + TIMED
                )
                taken[configuration.name] += [b - a for a, b in zip(ends[WARM:-1], ends[WARM + 1 :], strict=True)]
    return {name: round(statistics.median(values), 5) for name, values in taken.items()}


def _result(configuration: Configuration, seed: int, steps: int, pool: PairPool, held_out: PairPool) -> dict[str, Any]:
    """One training and what came of it."""
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(configuration, seed, steps, pool, held_out, Path(folder))
        began = time.process_time()
        trainer.run(lambda event: losses.append(event.loss) if isinstance(event, StepDone) else None)
        spent = time.process_time() - began
    model = trainer.result.eval().requires_grad_(False)
    clean: dict[str, list[float]] = {"psnr": [], "ssim": []}
    attacked: dict[str, dict[float, list[float]]] = {name: {level: [] for level in PAPER_LEVELS} for name in clean}
    rain: list[float] = []
    for pair in held_out.pairs:
        answers, truth = attacked_answers(model, pair, PAPER_LEVELS)
        rainy = to_tensor(pair.rainy[None])
        with torch.inference_mode():
            answer = model(rainy)
        rain.append(psnr(rainy, truth[:1]).item())
        for name, metric in (("psnr", psnr), ("ssim", ssim)):
            clean[name].append(metric(answer, truth[:1]).item())
            for level, value in zip(PAPER_LEVELS, metric(answers, truth).tolist(), strict=True):
                attacked[name][level].append(value)
    row: dict[str, Any] = {
        "configuration": configuration.name,
        "seed": seed,
        "parameters": trainer.model.parameter_count,
        "steps": steps,
        "cpu_seconds": round(spent, 1),
        "last_loss": round(statistics.fmean(losses[-20:]), 5),
        "rain_psnr": round(statistics.fmean(rain), 3),
    }
    for name, digits in (("psnr", 3), ("ssim", 4)):
        row[f"clean_{name}"] = round(statistics.fmean(clean[name]), digits)
        row |= {f"{name}_{level:g}": round(statistics.fmean(v), digits) for level, v in attacked[name].items()}
        row[f"map_{name}"] = round(mean_adversarial(attacked[name]), digits)
    return row


if __name__ == "__main__":
    main()
