"""How far searches by queries get, on crops of real pairs, with the official PReNet (Rain100H weights) as an engine.

Needs ``DEPLOY_ROBUST_DATA``. Crops: the first ``--crops`` pairs, offsets drawn by ``numpy.random.default_rng([0, i])``,
first y, then x. All crops are asked in one batch. Every row names PGD-20 with gradients on the same crops (of the
float32 network, one random start), rounded to 8 bits and run through the engine. Figures are the mean PSNR of the best
in-ball image so far, in dB against the ground truth, as the engine answered; ``end`` is the last one, ``end_fp32``
what the float32 network answers to the same images, and ``share`` the part of the dB between clean and PGD-20 that the
search has covered. ``--compute bf16`` is what OpenVINO does by itself on a CPU with BF16, in half the time.

    python benchmarks/gradient_free.py --crops 10 --size 32 --queries 100 --queries 1000
    python benchmarks/gradient_free.py --crops 6 --size 96 --runtime openvino --compute bf16 --attack local-credit
    python benchmarks/gradient_free.py --attack local-credit --setting filtered=false

Rows are written as they are measured. Rows of the same engine, size, attack, settings, budget and seed that ``--out``
holds already are kept (``--again`` measures them anew), so that an interrupted run goes on when it is repeated.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
import torch

from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.bound import psnr_of
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.registry import ATTACKS, make_attack
from deploy_robust.data.folders import FolderSource
from deploy_robust.engine import EngineOptions
from deploy_robust.engines import onnxruntime, openvino
from deploy_robust.exporters.onnx_fp32 import EXPORTER
from deploy_robust.models.checkpoints import load_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Network = Callable[[Tensor], Tensor]

RESULTS = Path(__file__).with_name("results")
KINDS: dict[str, Any] = {"onnxruntime": onnxruntime.KIND, "openvino": openvino.KIND}
IDENTITY = ("engine", "size", "epsilon", "attack", "settings", "budget", "seed")
SEARCHES = ("local-credit", "spsa", "square", "tiled", "suite")


@click.command()
@click.option("--crops", default=10, type=click.IntRange(1))
@click.option("--size", default=32, type=click.IntRange(16))
@click.option("--level", default=1.0, type=click.FloatRange(0, min_open=True), help="Epsilon, n/255.")
@click.option("--queries", default=(100,), multiple=True, type=click.IntRange(10))
@click.option("--attack", "attacks", default=SEARCHES, multiple=True)
@click.option("--setting", "given", multiple=True, help="Of the attack, NAME=VALUE in JSON.")
@click.option("--seed", "seeds", default=(0, 1), multiple=True, type=int)
@click.option("--runtime", default="onnxruntime", type=click.Choice(["onnxruntime", "openvino"]))
@click.option("--compute", type=click.Choice(["f32", "bf16"]), help="Type that OpenVINO computes in.")
@click.option("--again", is_flag=True, help="Measure rows anew that are there already.")
@click.option("--out", default=RESULTS / "gradient_free.json", type=click.Path(path_type=Path))
def main(
    crops: int,
    size: int,
    level: float,
    queries: tuple[int, ...],
    attacks: tuple[str, ...],
    given: tuple[str, ...],
    seeds: tuple[int, ...],
    runtime: str,
    compute: Literal["f32", "bf16"] | None,
    again: bool,
    out: Path,
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(1)
    model, engine, weights = networks(runtime, compute)
    runs = f"{runtime} {compute or 'f32'}, CPU, 1 thread"
    x, truth, keys = crops_of(crops, size)
    clean_output = engine(x)
    clean = psnr_of((clean_output.clamp(0, 1) - truth).square().mean((1, 2, 3)))
    eps = torch.full((crops, 1, 1, 1), level / 255)
    setting = {"weights": weights, "torch": torch.__version__}
    settings = {key: json.loads(value) for key, value in (text.split("=", 1) for text in given)}
    floor: Tensor | None = None

    for seed, budget, name in itertools.product(seeds, queries, attacks):
        attack = make_attack(name, queries=budget, **settings)
        known = {"engine": runs, "size": size, "crops": crops, "epsilon": f"{level:g}/255", "budget": budget}
        known |= {"seed": seed, "attack": attack.name, "settings": plain(attack.settings)}
        rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.is_file() else []
        if not again and any(known.items() <= row.items() for row in rows):
            continue
        task = Task(x, eps, seed, keys, engine, clean_output, truth)
        if floor is None:
            floor = floor_of(Task(x, eps, 0, keys, model, model(x), truth), engine)
        row = known | measure(attack, task, clean, floor, model)
        rows = [other for other in rows if any(other.get(name) != row[name] for name in IDENTITY)]
        write(out, {"setting": setting, "rows": [*rows, row]})
        click.echo(json.dumps(row))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON keeps them: it knows no infinity."""
    return {name: "infinite" if value == math.inf else value for name, value in settings.items()}


def write(path: Path, found: dict[str, Any]) -> None:
    """Writes to another name, then renames: a killed run leaves the rows that it had."""
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(found, indent=1) + "\n")
    whole.replace(path)


def networks(
    runtime: str = "onnxruntime", compute: Literal["f32", "bf16"] | None = None
) -> tuple[torch.nn.Module, Network, str]:
    """The network in torch, the same as an engine on one thread, and the hash of its weights."""
    checkpoint = Path(os.environ.get("DEPLOY_ROBUST_DATA") or "") / "checkpoints" / "prenet6_rain100h.pth"
    if not checkpoint.is_file():
        raise click.ClickException("DEPLOY_ROBUST_DATA must name the folder with rain100h/ and checkpoints/")
    model, info = load_any(checkpoint, name="prenet")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prenet.onnx"
        EXPORTER.export(ExportRequest(path, model.eval(), SizeRule(), lambda _: ()))
        engine, _ = KINDS[runtime].open(path, EngineOptions(threads=1, compute=compute))
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


def measure(attack: Any, task: Task, clean: Tensor, floor: Tensor, model: torch.nn.Module) -> dict[str, Any]:
    """One search on all crops."""
    began = time.process_time()
    with torch.no_grad():
        images, facts = (found := attack.craft(task)).images, found.facts
        spent = time.process_time() - began
        float32 = psnr_of((model(images).clamp(0, 1) - task.ground_truth).square().mean((1, 2, 3)))
    marks = {name: round(float(v.mean()), 2) for name, v in facts.items() if name.startswith("psnr_at")}
    # Mean of the crops as they are at the end, also where the budget is no mark.
    each = psnr_of(facts["objective"])
    end = float(each.mean())
    return {
        "clean": round(float(clean.mean()), 2),
        "pgd_20": round(float(floor.mean()), 2),
        **marks,
        "end": round(end, 2),
        "end_fp32": round(float(float32.mean()), 2),
        "share": round((float(clean.mean()) - end) / float((clean - floor).mean()), 3),
        "each": [round(value, 2) for value in each.tolist()],
        "pgd_20_each": [round(value, 2) for value in floor.tolist()],
        "queries": float(facts["queries"].mean()),
        "cpu_seconds": round(spent, 1),
    }


def _tensor(images: list[np.ndarray]) -> Tensor:
    return (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32) / 255).contiguous()


if __name__ == "__main__":
    if missing := [name for name in SEARCHES if name not in ATTACKS]:
        click.echo(f"not built here: {', '.join(missing)}", err=True)
    main()
