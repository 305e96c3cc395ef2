"""What the trainer costs beside the arithmetic: its steps against a bare loop of the same model, loss and inner steps.

The bare loop is what somebody writes who wants nothing but the weights: batches that lie ready in memory, forward,
loss, backward, clipping, Adam, and against an adversary a random corner and plain sign steps. The trainer draws crops
by key, schedules the rate, checks that the loss is finite, writes its log and saves its state.

CPU time of the process, one thread. A round runs both, one after the other, and the share bare / trainer is taken
within the round; the median over rounds is reported. The goal is 90 %.

On a CPU that computes bfloat16, a last row holds what a step with ``--precision bf16`` costs in units of
one in float32.

    OMP_NUM_THREADS=1 python benchmarks/training.py --out benchmarks/results/training-cpu.json
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from deploy_robust.artefact.files import write_bytes
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.freed_memory import keep_freed_memory
from deploy_robust.models.registry import MODELS
from deploy_robust.training.adversary import Adversary
from deploy_robust.training.crops import CropSampler, PairPool
from deploy_robust.training.losses import negative_ssim
from deploy_robust.training.plan import TrainingPlan
from deploy_robust.training.precision import cpu_computes_bfloat16
from deploy_robust.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.precision import Precision
    from deploy_robust.training.trainer import Event

BATCH, CROP, INNER, WEIGHT = 4, 48, 3, 20.0
CASES = (("prenet", "plain", 6), ("prenet", "adversarial", 3), ("mprnet-r-seadd-mb", "plain", 2))
"""Network in its `small` preset, what is minimised, steps in a round."""


def bare(
    net: Derainer, optimiser: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]], *, attack: bool
) -> None:
    """One step for each batch."""
    for rainy, clean in batches:
        optimiser.zero_grad(set_to_none=True)
        y = net(rainy)
        loss = negative_ssim(y, clean)
        if attack:
            loss = loss + WEIGHT * (net(inner(net, rainy, y.detach())) - y).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()


def inner(net: Derainer, rainy: Tensor, y: Tensor) -> Tensor:
    """PGD in the ball of 4/255, alpha half of it, from a random corner."""
    eps = 4 / 255
    net.eval()
    z = (rainy + eps * torch.randint_like(rainy, 2).mul_(2).sub_(1)).clamp(0, 1)
    for _ in range(INNER):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad((net(z) - y).square().mean(), z)
        z = (z.detach() + eps / 2 * gradient.sign()).clamp(rainy - eps, rainy + eps).clamp(0, 1)
    net.train()
    return z


def share(name: str, what: str, steps: int, rounds: int, pool: PairPool, folder: Path) -> dict[str, Any]:
    """Bare CPU seconds over those of one trainer that goes on and on, as a training does, saved states included."""
    attack = what == "adversarial"
    trainer = _trainer(name, pool, folder, attack=attack)
    net = copy.deepcopy(trainer.model)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-5)
    sampler = CropSampler(pool, size=CROP, rows=BATCH, seed=0)
    drawn = [sampler.batch(k) for k in range(steps)]
    batches = [tuple(x.contiguous(memory_format=torch.channels_last) for x in (b.rainy, b.clean)) for b in drawn]
    taken: list[tuple[float, float]] = []
    began = time.process_time()

    def on_event(_: Event) -> None:
        nonlocal began
        if trainer.step % steps == 0:
            middle = time.process_time()
            bare(net, optimiser, batches, attack=attack)
            taken.append((time.process_time() - middle, middle - began))
            began = time.process_time()

    trainer.run(on_event, stop=lambda: len(taken) > rounds)
    return {"network": f"{name} small", "training": what, **_figures(("bare", "trainer"), taken, steps)}


def mixed(name: str, steps: int, rounds: int, pool: PairPool, folder: Path) -> dict[str, Any]:
    """CPU seconds of plain steps in bfloat16 over those in float32."""
    trainers = {p: _trainer(name, pool, folder / p, attack=False, precision=p) for p in ("bf16", "fp32")}
    taken = []
    for _ in range(rounds + 1):
        marks = [time.process_time()]
        for trainer in trainers.values():
            _run(trainer, steps)
            marks.append(time.process_time())
        taken.append([b - a for a, b in itertools.pairwise(marks)])
    return {"network": f"{name} small", "training": "plain, bf16 over fp32", **_figures(trainers, taken, steps)}


def _trainer(name: str, pool: PairPool, folder: Path, *, attack: bool, precision: Precision = "fp32") -> Trainer:
    torch.manual_seed(0)
    plan = TrainingPlan(
        steps=10_000,
        batch=BATCH,
        crop=CROP,
        loss="ssim",
        precision=precision,
        adversary=Adversary(epsilon=4.0, iterations=INNER, step_ratio=0.5) if attack else None,
        adversary_weight=WEIGHT,
        validate_every=10_000,
    )
    return Trainer(MODELS.create(name, "small"), plan, pool, pool, folder)


def _run(trainer: Trainer, steps: int) -> None:
    end = trainer.step + steps
    trainer.run(stop=lambda: trainer.step >= end)


def _figures(names: Iterable[str], taken: Sequence[Sequence[float]], steps: int) -> dict[str, Any]:
    """CPU seconds of the first over those of the second, by round after one that warms up, and the median."""
    ratios = [first / second for first, second in taken[1:]]
    medians = [statistics.median(each) / steps for each in zip(*taken[1:], strict=True)]
    return {
        "share": round(statistics.median(ratios), 3),
        "rounds": [round(value, 3) for value in ratios],
        "steps_a_round": steps,
        "cpu_seconds_a_step": {name: round(value, 4) for name, value in zip(names, medians, strict=True)},
    }


@click.command()
@click.option("--rounds", default=7, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(rounds: int, out: Path | None) -> None:
    """Prints and writes the shares."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as `deploy-robust train` does; the bare loop has it, too
    pool = PairPool.of([SceneSource(8, size=(96, 96), split="train")])
    rows = []
    for name, what, steps in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(share(name, what, steps, rounds, pool, Path(folder)))
        click.echo(json.dumps(rows[-1]))
    if cpu_computes_bfloat16():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(mixed("prenet", 6, rounds, pool, Path(folder)))
        click.echo(json.dumps(rows[-1]))
    setting = {"batch": BATCH, "crop": CROP, "inner_steps": INNER, "threads": 1, "torch": torch.__version__}
    if out is not None:
        content = {"setting": setting, "load": os.getloadavg()[0], "cores": os.cpu_count(), "rows": rows}
        write_bytes(out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
