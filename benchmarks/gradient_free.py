"""How far searches by queries get, on crops of real pairs, with the official PReNet (Rain100H weights).

Needs ``DEPLOY_ROBUST_DATA``. Crops: the first ``--crops`` pairs, offsets drawn by ``numpy.random.default_rng([0, i])``,
first y, then x. Every row names PGD-20 with gradients on the same crops, rounded to 8 bits. Figures are the mean PSNR
of the best in-ball image so far, in dB against the ground truth.

    python benchmarks/gradient_free.py --crops 10 --size 32 --queries 100 --queries 300
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.local_credit import local_credit, spsa
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.queries import psnr_of
from deploy_robust.data.folders import FolderSource
from deploy_robust.models.checkpoints import load_any

if TYPE_CHECKING:
    from torch import Tensor

RESULTS = Path(__file__).with_name("results")


@click.command()
@click.option("--crops", default=10, type=click.IntRange(1))
@click.option("--size", default=32, type=click.IntRange(16))
@click.option("--level", default=1.0, type=click.FloatRange(0, min_open=True), help="Epsilon, n/255.")
@click.option("--queries", default=(100,), multiple=True, type=click.IntRange(10))
@click.option("--seed", "seeds", default=(0, 1), multiple=True, type=int)
@click.option("--threads", default=1, type=click.IntRange(1))
@click.option("--out", default=RESULTS / "gradient_free.json", type=click.Path(path_type=Path))
def main(
    crops: int, size: int, level: float, queries: tuple[int, ...], seeds: tuple[int, ...], threads: int, out: Path
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(threads)
    data = Path(os.environ.get("DEPLOY_ROBUST_DATA") or "")
    checkpoint = data / "checkpoints" / "prenet6_rain100h.pth"
    if not checkpoint.is_file():
        raise click.ClickException("DEPLOY_ROBUST_DATA must name the folder with rain100h/ and checkpoints/")
    model, info = load_any(checkpoint, name="prenet")
    network = model.eval().requires_grad_(False)
    x, truth, keys = _crops(FolderSource.open(data / "rain100h"), crops, size)
    with torch.no_grad():
        clean = network(x)
    rows = []
    for seed in seeds:
        task = Task(x, torch.full((crops, 1, 1, 1), level / 255), seed, keys, network, clean, truth)
        floor = _psnr(network, (pgd_lmse(reference="ground-truth").craft(task).images * 255).round() / 255, truth)
        for budget in queries:
            for attack in (
                local_credit(queries=budget),
                local_credit(queries=budget, radius=0.7),
                spsa(queries=budget),
            ):
                began = time.process_time()
                with torch.no_grad():
                    facts = attack.craft(task).facts
                row = {
                    "attack": attack.name,
                    "radius": attack.radius if attack.name == "local-credit" else None,
                    "budget": budget,
                    "seed": seed,
                    "clean": round(_psnr(network, x, truth), 3),
                    "pgd_20": round(floor, 3),
                    **{name: round(float(v.mean()), 3) for name, v in facts.items() if name.startswith("psnr_at")},
                    "queries": float(facts["queries"].mean()),
                    "cpu_seconds": round(time.process_time() - began, 1),
                }
                rows.append(row)
                click.echo(json.dumps(row))
    setting = {"crops": crops, "size": size, "epsilon": f"{level:g}/255", "weights": info.weights_sha256}
    out.write_text(json.dumps({"setting": setting, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


def _crops(source: FolderSource, count: int, size: int) -> tuple[Tensor, Tensor, tuple[tuple[str], ...]]:
    rainy, clean, keys = [], [], []
    for i in range(count):
        pair = source[i]
        rng = np.random.default_rng([0, i])
        height, width = pair.size
        top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
        if pair.clean is None:
            raise click.ClickException(f"{pair.id} has no ground truth")
        rainy.append(pair.rainy[top : top + size, left : left + size])
        clean.append(pair.clean[top : top + size, left : left + size])
        keys.append((pair.id,))
    return _tensor(rainy), _tensor(clean), tuple(keys)


def _tensor(images: list[np.ndarray]) -> Tensor:
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32) / 255).contiguous()


def _psnr(network: torch.nn.Module, images: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        return float(psnr_of((network(images).clamp(0, 1) - truth).square().mean((1, 2, 3))).mean())


if __name__ == "__main__":
    main()
