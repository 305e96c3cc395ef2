"""Plain and adversarially trained twins under PGD-20 (LMSE, 8-bit delivery), FP32, on data that neither has seen.

    python benchmarks/twins.py --scenes 12 --photos 6 --size 64

Held-out scenes and photographs come from their test splits. PGD is crafted on each network itself. Rows hold the mean
PSNR in dB against the ground truth, clean and for each epsilon, and the mean adversarial performance (eq. 7 of arXiv
2203.16931) over 1, 2, 4 and 8/255. ``gain_over`` rows hold the robust twin minus the other one, with a 95 % interval
over images. ``--control`` adds plain weights that went on for as many steps as the robust twin did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.queries import psnr_of
from deploy_robust.data.photographs import PhotoSource
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.models.checkpoints import load_any
from deploy_robust.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.data.pairs import PairSource

RESULTS = Path(__file__).with_name("results")
TWINS = ("prenet-small", "mprnet-r-seadd-mb-small")
LEVELS = (1, 2, 4, 8)


@click.command()
@click.option("--scenes", default=12, type=click.IntRange(2))
@click.option("--photos", default=6, type=click.IntRange(2))
@click.option("--size", default=64, type=click.IntRange(32))
@click.option("--weights", default=TWINS, multiple=True, help="Shipped weights that have a -robust twin.")
@click.option(
    "--control",
    type=click.Path(path_type=Path, exists=True),
    help="A file: plain weights with the robust twin's steps.",
)
@click.option("--threads", default=1, type=click.IntRange(1))
@click.option("--out", default=RESULTS / "twins.json", type=click.Path(path_type=Path))
def main(
    scenes: int, photos: int, size: int, weights: tuple[str, ...], control: Path | None, threads: int, out: Path
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(threads)
    sources: dict[str, PairSource] = {
        "scenes": SceneSource(scenes, seed=0, size=(size, size), split="test"),
        "photos": PhotoSource(photos, seed=0, size=(size, size), split="test"),
    }
    rows = []
    for data, source in sources.items():
        for name in weights:
            files = {"plain": name, "robust": f"{name}-robust"} | ({} if control is None else {"control": control})
            found = {twin: _measure(file, source) for twin, file in files.items()}
            rows += [{"data": data, "weights": name, "twin": twin, **_means(each)} for twin, each in found.items()]
            rows += [
                {"data": data, "weights": name, "gain_over": twin, **_gain(each, found["robust"])}
                for twin, each in found.items()
                if twin != "robust"
            ]
    for row in rows:
        click.echo(json.dumps(row))
    setting = {"scenes": scenes, "photos": photos, "size": size, "torch": torch.__version__}
    out.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


def _gain(before: dict[str, list[float]], after: dict[str, list[float]]) -> dict[str, list[float]]:
    """Mean of the paired differences, with the ends of its interval, by column."""
    return {
        key: [round(v, 2) for v in mean_interval([b - a for a, b in zip(before[key], after[key], strict=True)])]
        for key in before
        if key != "rain"
    }


def _measure(weights: str | Path, source: PairSource) -> dict[str, list[float]]:
    """PSNR of each image by column: rain, clean, every epsilon, and the mean over epsilons."""
    network = load_any(weights)[0].eval().requires_grad_(False)
    found: dict[str, list[float]] = {}
    for pair in (source[i] for i in range(len(source))):
        if pair.clean is None:
            raise click.ClickException(f"{pair.id} has no ground truth")
        x, truth = _tensor(pair.rainy), _tensor(pair.clean)
        with torch.no_grad():
            clean = network(x)
        rows = len(LEVELS)
        task = Task(
            x.repeat(rows, 1, 1, 1),
            torch.tensor(LEVELS).view(-1, 1, 1, 1) / 255,
            0,
            tuple((pair.id, "pgd-lmse", level) for level in LEVELS),
            network,
            clean.repeat(rows, 1, 1, 1),
        )
        attacked = (pgd_lmse().craft(task).images * 255).round() / 255
        with torch.no_grad():
            psnr = _psnr(network(attacked), truth)
        columns = {"rain": _psnr(x, truth)[0], "clean": _psnr(clean, truth)[0]}
        columns |= {f"{level}/255": value for level, value in zip(LEVELS, psnr, strict=True)}
        columns["mean"] = sum(psnr) / rows
        for key, value in columns.items():
            found.setdefault(key, []).append(value)
    return found


def _means(found: dict[str, list[float]]) -> dict[str, float]:
    return {key: round(float(np.mean(values)), 2) for key, values in found.items()}


def _psnr(images: Tensor, truth: Tensor) -> list[float]:
    return [float(v) for v in psnr_of((images.clamp(0, 1) - truth).square().mean((1, 2, 3)))]


def _tensor(image: np.ndarray) -> Tensor:
    return (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(torch.float32) / 255).contiguous()


if __name__ == "__main__":
    main()
