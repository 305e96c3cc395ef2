"""What an attack on the derainer costs the networks behind it, on plain and robust twins (FP32, PGD-20, 8 bits).

    python benchmarks/downstream.py --scenes 24 --size 64 --objective lmse --objective lpips --objective segmentation

Held-out scenes of the test split. PGD is crafted on each derainer itself: on LMSE (eq. 4 of arXiv 2203.16931), and on
the cross-entropy of the segmentation of its output, the strongest attack on mIoU there is here; ``--objective`` names
others, like ``lpips`` (eq. 5), which needs a trunk (``DEPLOY_ROBUST_LPIPS``). Uniform noise is the baseline.
``segmenter alone`` is the second attack without any derainer, on the ground truth image: what no derainer in front of
that network prevents if it changes nothing. Figures are over all images taken together; ``cost_of`` rows hold the clean
output's mIoU minus the attacked one's, ``kept_under`` rows the share of the plain twin's cost that the robust twin
avoids, both with a 95 % bootstrap interval over scenes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from deploy_robust.app.downstream import open_downstream
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.noise import uniform_noise
from deploy_robust.attacks.objectives.downstream import SegmentationLoss
from deploy_robust.attacks.objectives.registry import OBJECTIVES
from deploy_robust.attacks.pgd import pgd
from deploy_robust.data.scenes import SceneSource
from deploy_robust.gate.evidence import FIGURES, class_ious, over
from deploy_robust.gate.images import to_tensor
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.checkpoints import load_any
from deploy_robust.models.vision.registry import load_vision
from deploy_robust.statistics.dataset import dataset_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.data.pairs import Pair

RESULTS = Path(__file__).with_name("results")
SEGMENTER, DETECTOR = "scene-segmenter", "scene-detector"

Seen = dict[str, dict[str, list[Any]]]
"""View to what was seen in it, image by image: evidence by task, and PSNR."""


@click.command()
@click.option("--scenes", default=24, type=click.IntRange(2))
@click.option("--size", default=96, type=click.IntRange(32))
@click.option("--level", "levels", default=(4.0,), multiple=True, type=click.FloatRange(0, 255, min_open=True))
@click.option("--weights", default="prenet-small", help="Shipped weights that have a -robust twin.")
@click.option("--robust", default=None, help="The twin. [default: WEIGHTS-robust]")
@click.option("--objective", "objectives", default=("lmse", "segmentation"), multiple=True, help="What PGD maximises.")
@click.option("--iterations", default=20, type=click.IntRange(1))
@click.option("--threads", default=1, type=click.IntRange(1))
@click.option("--out", default=RESULTS / "downstream.json", type=click.Path(path_type=Path))
def main(
    scenes: int,
    size: int,
    levels: tuple[float, ...],
    weights: str,
    robust: str | None,
    objectives: tuple[str, ...],
    iterations: int,
    threads: int,
    out: Path,
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(threads)
    source = SceneSource(scenes, seed=0, size=(size, size), split="test")
    pairs = [source[index] for index in range(scenes)]
    watching = open_downstream((SEGMENTER, DETECTOR), source, "cpu", threads)
    segmenter = load_vision(SEGMENTER)[0].requires_grad_(False)
    twins = {"plain": weights, "robust": robust or f"{weights}-robust"}
    rows: list[dict[str, Any]] = []
    seen: dict[str, Seen] = {"none": {}}
    for pair in pairs:
        truth = to_tensor(_clean(pair))
        _note(seen["none"], "ground truth", truth, pair, watching.downstream)
        _note(seen["none"], "rain", to_tensor(pair.rainy), pair, watching.downstream)
        for level in levels:
            x = _attacked(_seeing(segmenter, pair), lambda image: image, truth, truth, level, iterations, pair)
            _note(seen["none"], f"segmenter alone at {level:g}/255", x, pair, watching.downstream)
    for twin, name in twins.items():
        network = load_any(name)[0].requires_grad_(False)
        seen[twin] = {}
        for number, pair in enumerate(pairs, start=1):
            aims = [_seeing(segmenter, pair) if aim == "segmentation" else OBJECTIVES[aim]() for aim in objectives]
            for view, image in _outputs(network, aims, pair, levels, iterations):
                _note(seen[twin], view, image, pair, watching.downstream)
            click.echo(f"{name}: {number} of {scenes}", err=True)
    for twin, views in seen.items():
        rows += [{"derainer": twin, "view": view, **_figures(found)} for view, found in views.items()]
    lines = []
    for view in seen["plain"]:
        if view != "clean output":
            costs = {twin: _cost(seen[twin], view) for twin in twins}
            rows += [{"derainer": twin, "cost_of": view, "miou": _rounded(costs[twin])} for twin in twins]
            kept = _kept(seen, view)
            rows.append({"kept_under": view, "share": _rounded(kept)})
            if "pgd" in view and view.endswith(" 4/255"):
                lines += _judged(view, costs["plain"], costs["robust"], kept)
    for row in rows:
        click.echo(json.dumps({key: value for key, value in row.items() if key != "classes"}))
    for line in lines:
        click.echo(json.dumps(line))
    derainers = {twin: load_any(name)[1].weights_sha256[:16] for twin, name in twins.items()}
    setting = {
        "scenes": scenes,
        "size": size,
        "iterations": iterations,
        "derainers": {**twins, "sha256": derainers},
        "vision": {name: load_vision(name)[1].weights_sha256[:16] for name in (SEGMENTER, DETECTOR)},
        "torch": torch.__version__,
    }
    out.write_text(json.dumps({"setting": setting, "rows": rows, "lines": lines}, indent=1) + "\n")


def _outputs(
    network: Any, aims: list[Any], pair: Pair, levels: tuple[float, ...], iterations: int
) -> list[tuple[str, Tensor]]:
    """Views of one image: the clean output, then the outputs under noise and attack at each epsilon."""
    x = to_tensor(pair.rainy)
    with torch.no_grad():
        clean = network(x)
    views = [("clean output", clean)]
    for level in levels:
        at = f"{level:g}/255"
        noise = uniform_noise().craft(_task(pair, x, level)).images
        aimed = {f"uniform {at}": noise} | {
            f"pgd-{objective.name} {at}": _attacked(objective, network, x, clean, level, iterations, pair)
            for objective in aims
        }
        with torch.no_grad():
            views += [(view, network((image * 255).round() / 255)) for view, image in aimed.items()]
    return views


def _attacked(
    objective: Any,
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    clean: Tensor,
    level: float,
    iterations: int,
    pair: Pair,
) -> Tensor:
    task = _task(pair, x, level, network, clean, name=f"pgd-{objective.name}")
    return pgd(objective, iterations=iterations).craft(task).images


def _task(
    pair: Pair, x: Tensor, level: float, network: Any = None, clean: Tensor | None = None, name: str = "uniform"
) -> Task:
    eps = torch.full((1, 1, 1, 1), level / 255)
    return Task(x, eps, 0, ((pair.id, name, level),), network, clean)


def _seeing(segmenter: Any, pair: Pair) -> SegmentationLoss:
    assert pair.labels.classes is not None
    return SegmentationLoss(segmenter, SEGMENTER, {pair.id: torch.from_numpy(pair.labels.classes.astype(np.int64))})


def _clean(pair: Pair) -> np.ndarray:
    assert pair.clean is not None
    return pair.clean


def _note(seen: Seen, view: str, image: Tensor, pair: Pair, downstream: Any) -> None:
    _, evidence = downstream.look(image, pair.labels)
    there = seen.setdefault(view, {"psnr": []})
    there["psnr"].append(min(100.0, float(psnr(image, to_tensor(_clean(pair)))[0])))
    for task, found in evidence.items():
        there.setdefault(task, []).append(found)


def _figures(found: dict[str, list[Any]]) -> dict[str, Any]:
    ids = [str(number) for number in range(len(found["psnr"]))]
    figures: dict[str, Any] = {"psnr": round(float(np.mean(found["psnr"])), 2)}
    for metric, task in FIGURES.items():
        figures[metric] = _rounded(dataset_interval(over(metric, found[task]), ids))
    figures["classes"] = [None if np.isnan(v) else round(float(v), 3) for v in class_ious(found["segmentation"])]
    return figures


def _difference(seen: Seen, view: str) -> Callable[[np.ndarray], np.ndarray]:
    before, after = (over("miou", seen[name]["segmentation"]) for name in ("clean output", view))
    return lambda weights: before(weights) - after(weights)


def _cost(seen: Seen, view: str) -> tuple[float, float, float]:
    ids = [str(number) for number in range(len(seen[view]["psnr"]))]
    return dataset_interval(_difference(seen, view), ids)


def _kept(seen: dict[str, Seen], view: str) -> tuple[float, float, float]:
    plain, robust = (_difference(seen[twin], view) for twin in ("plain", "robust"))
    ids = [str(number) for number in range(len(seen["plain"][view]["psnr"]))]
    return dataset_interval(lambda weights: 1 - robust(weights) / plain(weights), ids)


def _judged(view: str, plain: Any, robust: Any, kept: Any) -> list[dict[str, Any]]:
    """The two lines that a release must show."""
    return [
        {
            "line": f"{view} costs the plain twin at least 0.2 mIoU",
            "value": round(plain[0], 3),
            "holds": plain[0] >= 0.2,
        },
        {
            "line": f"the robust twin keeps at least half of that under {view}",
            "value": round(kept[0], 3),
            "robust_cost": round(robust[0], 3),
            "holds": bool(kept[0] >= 0.5),
        },
    ]


def _rounded(interval: Any) -> list[float | None]:
    return [round(float(value), 3) if np.isfinite(value) else None for value in interval]


if __name__ == "__main__":
    main()
