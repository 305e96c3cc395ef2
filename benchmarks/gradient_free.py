"""How far searches by queries get, on crops of real pairs, with the official PReNet (Rain100H weights) in ONNX Runtime.

Needs ``DEPLOY_ROBUST_DATA``. Crops: the first ``--crops`` pairs, offsets drawn by ``numpy.random.default_rng([0, i])``,
first y, then x. All crops are asked in one batch. Every row names PGD-20 with gradients on the same crops, rounded to 8
bits. Figures are the mean PSNR of the best in-ball image so far, in dB against the ground truth; ``share`` is the part
of the dB between clean and PGD-20 that the search has covered.

    python benchmarks/gradient_free.py --crops 10 --size 32 --queries 100 --queries 300 --queries 1000
    python benchmarks/gradient_free.py --crops 6 --size 96 --queries 100 --attack local-credit --attack spsa

Rows are written as they are measured, and replace rows of the same size, attack, budget and seed in ``--out``.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.queries import psnr_of
from deploy_robust.attacks.registry import ATTACKS, make_attack
from deploy_robust.data.folders import FolderSource
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.exporters.onnx_fp32 import EXPORTER
from deploy_robust.models.checkpoints import load_any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Network = Callable[[Tensor], Tensor]

RESULTS = Path(__file__).with_name("results")
SEARCHES = ("local-credit", "spsa", "square", "tiled", "suite")


@click.command()
@click.option("--crops", default=10, type=click.IntRange(1))
@click.option("--size", default=32, type=click.IntRange(16))
@click.option("--level", default=1.0, type=click.FloatRange(0, min_open=True), help="Epsilon, n/255.")
@click.option("--queries", default=(100,), multiple=True, type=click.IntRange(10))
@click.option("--attack", "attacks", default=SEARCHES, multiple=True)
@click.option("--seed", "seeds", default=(0, 1), multiple=True, type=int)
@click.option("--out", default=RESULTS / "gradient_free.json", type=click.Path(path_type=Path))
def main(
    crops: int,
    size: int,
    level: float,
    queries: tuple[int, ...],
    attacks: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(1)
    model, engine, weights = networks()
    x, truth, keys = crops_of(crops, size)
    clean = psnr_of((engine(x).clamp(0, 1) - truth).square().mean((1, 2, 3)))
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.is_file() else []
    for budget in queries:
        for name in attacks:
            for seed in seeds:
                task = Task(x, torch.full((crops, 1, 1, 1), level / 255), seed, keys, engine, engine(x), truth)
                floor = floor_of(replace(task, restore=model, clean_output=model(x)), engine)
                row = measure(make_attack(name, queries=budget), task, clean, floor)
                row = {"size": size, "crops": crops, "epsilon": f"{level:g}/255", "budget": budget, "seed": seed, **row}
                rows = [r for r in rows if any(r.get(k) != row[k] for k in ("size", "attack", "budget", "seed"))]
                rows.append(row)
                click.echo(json.dumps(row))
                setting = {"weights": weights, "engine": "onnxruntime, CPU, 1 thread", "torch": torch.__version__}
                out.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


def networks() -> tuple[torch.nn.Module, Network, str]:
    """The network in torch, the same as an engine of ONNX Runtime on one thread, and the hash of its weights."""
    checkpoint = Path(os.environ.get("DEPLOY_ROBUST_DATA") or "") / "checkpoints" / "prenet6_rain100h.pth"
    if not checkpoint.is_file():
        raise click.ClickException("DEPLOY_ROBUST_DATA must name the folder with rain100h/ and checkpoints/")
    model, info = load_any(checkpoint, name="prenet")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prenet.onnx"
        EXPORTER.export(ExportRequest(path, model.eval(), SizeRule(), lambda _: ()))
        engine, _ = KIND.open(path, EngineOptions(threads=1))
    return model.requires_grad_(False), lambda images: engine.run(images.contiguous()), info.weights_sha256


def crops_of(count: int, size: int) -> tuple[Tensor, Tensor, tuple[tuple[str], ...]]:
    """Rainy crops, their ground truth, (count, 3, size, size) each, and their keys."""
    source = FolderSource.open(Path(os.environ["DEPLOY_ROBUST_DATA"]) / "rain100h")
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


def floor_of(task: Task, engine: Network) -> Tensor:
    """PSNR of each crop under PGD-20 with gradients of the network in torch, rounded to 8 bits, on the engine."""
    images = pgd_lmse(reference="ground-truth").craft(task).images
    answer = engine((images * 255).round() / 255).clamp(0, 1)
    assert task.ground_truth is not None
    return psnr_of((answer - task.ground_truth).square().mean((1, 2, 3)))


def measure(attack: Any, task: Task, clean: Tensor, floor: Tensor) -> dict[str, Any]:
    """One search on all crops."""
    began = time.process_time()
    with torch.no_grad():
        facts = attack.craft(task).facts
    spent = time.process_time() - began
    marks = {name: round(float(v.mean()), 2) for name, v in facts.items() if name.startswith("psnr_at")}
    # Mean of the crops as they are at the end, also where the budget is no mark.
    end = float(psnr_of(facts["objective"]).mean())
    return {
        "attack": attack.name,
        "clean": round(float(clean.mean()), 2),
        "pgd_20": round(float(floor.mean()), 2),
        **marks,
        "end": round(end, 2),
        "share": round((float(clean.mean()) - end) / float((clean - floor).mean()), 3),
        "queries": float(facts["queries"].mean()),
        "cpu_seconds": round(spent, 1),
        "settings": dict(attack.settings),
    }


def _tensor(images: list[np.ndarray]) -> Tensor:
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32) / 255).contiguous()


if __name__ == "__main__":
    if missing := [name for name in SEARCHES if name not in ATTACKS]:
        click.echo(f"not built here: {', '.join(missing)}", err=True)
    main()
