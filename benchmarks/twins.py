"""Plain and adversarially trained twins under attack, on data that neither has seen.

    OMP_NUM_THREADS=1 DEPLOY_ROBUST_DATA=... python benchmarks/twins.py
    OMP_NUM_THREADS=1 python benchmarks/twins.py --weights prenet-small --no-masking

The table: PGD-20 on LMSE, crafted on each network's own weights, delivered as 8 bits and as floats to its FP32 and INT8
engines on ONNX Runtime. Images: scenes and photographs of the test splits, and keyed crops of real pairs where
``DEPLOY_ROBUST_DATA`` names them. Columns are PSNR in dB against the ground truth in the paper's protocol (RGB, 8-bit
rounding, 8 pixels shaved), clean and for each epsilon, and the mean adversarial performance (eq. 7 of arXiv
2203.16931). Gains are the robust twin minus the other one, paired by image, with 95 % intervals.

The check for masked gradients, on the first scenes at one epsilon: the same gain under PGD-100 with five restarts and
under searches by queries alone (8 bits, FP32 engine), and its share of the gain under PGD-20; at last with each image
of each twin at its worst over all of them.

Every image is stored as soon as it is measured, keyed by the hash of the weights; the same command goes on.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from twins_measure import LEVELS, STRONG, TABLE, Network, measured
from twins_table import markdown, masking, rows

from deploy_robust.artefact.files import write_bytes
from deploy_robust.data.folders import FolderSource
from deploy_robust.data.photographs import PhotoSource
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.data.select import Cropped, Limited
from deploy_robust.models.checkpoints import load_any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.data.pairs import PairSource

RESULTS = Path(__file__).with_name("results")
COUNTS = {"prenet-small": (64, 12, 6, 6, 4), "mprnet-r-seadd-mb-small": (48, 6, 3, 3, 3)}
"""Side in pixels, scenes, photographs, crops of each real set, scenes for the check for masked gradients."""
REAL = ("rain100h", "raincityscapes")
SEARCHES = ("local-credit", "suite")


@click.command()
@click.option("--weights", default=tuple(COUNTS), multiple=True, help="Shipped weights that have a -robust twin.")
@click.option("--size", type=click.IntRange(32), help="Side of images, pixels.  [default: by weights]")
@click.option("--scenes", type=click.IntRange(1), help="[default: by weights]")
@click.option("--photos", type=click.IntRange(0), help="[default: by weights]")
@click.option("--crops", type=click.IntRange(0), help="Crops of each real set.  [default: by weights]")
@click.option("--masking-scenes", type=click.IntRange(0), help="[default: by weights]")
@click.option("--masking-level", default=4.0, type=click.FloatRange(0, min_open=True), help="Epsilon, n/255.")
@click.option("--masking/--no-masking", default=True)
@click.option("--search", "searches", default=SEARCHES, multiple=True, show_default=True, help="By queries alone.")
@click.option("--queries", default=3000, type=click.IntRange(10), help="Of the searches by queries.")
@click.option(
    "--control",
    type=click.Path(path_type=Path, exists=True),
    help="A file: plain weights with the robust twin's steps, for the table.",
)
@click.option("--out", default=RESULTS / "twins.json", type=click.Path(path_type=Path))
@click.option("--page", type=click.Path(path_type=Path), help="Writes the tables, .md.")
def main(
    weights: tuple[str, ...],
    size: int | None,
    scenes: int | None,
    photos: int | None,
    crops: int | None,
    masking_scenes: int | None,
    masking_level: float,
    masking: bool,
    searches: tuple[str, ...],
    queries: int,
    control: Path | None,
    out: Path,
    page: Path | None,
) -> None:
    """Measures what is missing, writes each image's figures, and prints the tables."""
    torch.set_num_threads(1)
    given = (size, scenes, photos, crops, masking_scenes)
    counts = {
        name: tuple(usual if own is None else own for own, usual in zip(given, _counts(name), strict=True))
        for name in weights
    }
    found: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    kept: list[dict[str, Any]] = found.get("measurements", [])
    there = {_key(m) for m in kept}
    for name in weights:
        side, n_scenes, n_photos, n_crops, n_masked = counts[name]
        sources = _sources(side, n_scenes, n_photos, n_crops)
        jobs = [(TABLE, data, source, LEVELS) for data, source in sources.items()]
        if masking and n_masked:
            first = Limited(sources["scenes"], n_masked)
            jobs += [(attack, "scenes", first, (masking_level,)) for attack in (STRONG, *searches)]
        for twin, file in _twins(name, control):
            sha256 = load_any(file)[1].weights_sha256
            # Figures of weights that have changed since say nothing any more.
            kept = [m for m in kept if (m["weights"], m["twin"]) != (name, twin) or m["sha256"] == sha256]
            missing = [
                (job, index, labels)
                for job in (jobs if twin != "control" else jobs[: len(sources)])
                for index, image in enumerate(job[2].ids())
                if _key(labels := _labels(job, name, twin, sha256, image, side, queries)) not in there
            ]
            if not missing:
                continue
            with tempfile.TemporaryDirectory() as folder:
                network = Network.open(file, Path(folder))
                for (attack, _, source, levels), index, labels in missing:
                    figures = measured(network, source[index], attack, levels, queries)
                    kept.append({**labels, **figures})
                    _write(out, kept)
                    click.echo(json.dumps(kept[-1]), err=True)
    _write(out, kept)
    click.echo(markdown(kept))
    if page is not None:
        write_bytes(page, markdown(kept).encode())


def _counts(name: str) -> tuple[int, ...]:
    return COUNTS.get(name, COUNTS["prenet-small"])


def _twins(name: str, control: Path | None) -> Iterator[tuple[str, str | Path]]:
    yield "plain", name
    yield "robust", f"{name}-robust"
    if control is not None:
        yield "control", control


def _sources(side: int, scenes: int, photos: int, crops: int) -> dict[str, PairSource]:
    """By name; real pairs only where they are, and said so where they are not."""
    sources: dict[str, PairSource] = {"scenes": SceneSource(scenes, size=(side, side), split="test")}
    if photos:
        sources["photos"] = PhotoSource(photos, size=(side, side), split="test")
    root = os.environ.get("DEPLOY_ROBUST_DATA")
    if crops and not root:
        click.echo("DEPLOY_ROBUST_DATA names no folder: real crops are not measured", err=True)
    for name in REAL if crops and root else ():
        sources[name] = Cropped(Limited(FolderSource.open(Path(root) / name), crops), (side, side), at="keyed")
    return sources


def _labels(
    job: tuple[str, str, PairSource, tuple[float, ...]],
    name: str,
    twin: str,
    sha256: str,
    image: str,
    side: int,
    queries: int,
) -> dict[str, Any]:
    attack, data, _, levels = job
    labels = {"weights": name, "twin": twin, "sha256": sha256, "data": data, "size": side, "image": image}
    budget = {} if attack in (TABLE, STRONG) else {"queries": queries}
    return {**labels, "attack": attack, "levels": list(levels), **budget}


def _key(m: dict[str, Any]) -> str:
    names = ("sha256", "data", "size", "image", "attack", "levels", "queries")
    return json.dumps([m.get(name) for name in names])


def _write(out: Path, measurements: list[dict[str, Any]]) -> None:
    """The tables for people, the measurements for everything else."""
    tables = {"rows": rows(measurements), "masking": masking(measurements), "measurements": measurements}
    write_bytes(out, (json.dumps({"torch": torch.__version__, **tables}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
