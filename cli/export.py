"""``deploy-robust export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from rich.table import Table

    from deploy_robust.app.export import ExportedArtefact


@click.command()
@click.option("--model", metavar="NAME", help="Network of the zoo; alone, the name of shipped weights.")
@click.option("--preset", metavar="NAME", help="Preset of the network, for an official .pth file.")
@click.option("--checkpoint", metavar="FILE|NAME", help="Weights: .safetensors, official .pth, or a shipped name.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=("fp32", "int8"),
    show_default=True,
    help="Exporter; give it once for each artefact.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for artefacts.")
@click.option(
    "--calibration",
    metavar="DIR|scenes|photos",
    default="scenes",
    show_default=True,
    help="Rainy images for calibration and parity.",
)
@click.option("--calibration-count", type=click.IntRange(1), default=16, show_default=True, help="Images at most.")
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How int8 ranges are drawn from the calibration images.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the embedded images.")
def command(
    model: str | None,
    preset: str | None,
    checkpoint: str | None,
    precisions: tuple[str, ...],
    out: Path,
    calibration: str,
    calibration_count: int,
    method: Literal["minmax", "percentile", "entropy"],
    seed: int,
) -> None:
    """Turn a trained network into engines, each verified against its reference.

    Every artefact gets a manifest, and the weights are kept beside it. One whose parity is broken is not written.
    """
    from rich.console import Console

    from deploy_robust.app.export import export
    from deploy_robust.app.pairs import PairsRequest

    console = Console()
    with Console(stderr=True).status("loading") as status:
        artefacts = export(
            out,
            checkpoint=checkpoint,
            model=model,
            preset=preset,
            precisions=precisions,
            pairs=PairsRequest(calibration, split="calibration", seed=seed, unpaired=_has_no_truth(calibration)),
            calibration_count=calibration_count,
            method=method,
            on_step=lambda step: status.update(step),
        )
    console.print(artefact_table(artefacts, out))


def _has_no_truth(calibration: str) -> bool:
    """A folder is read for its rainy images alone: neither calibration nor parity needs ground truth."""
    return calibration not in ("scenes", "photos")


def artefact_table(artefacts: list[ExportedArtefact], folder: Path) -> Table:
    """Each artefact with its size, its parity at every size, and how long it took."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=f"in {folder}", title_justify="left")
    table.add_column("artefact", no_wrap=True)
    for name in ("precision", "MB", "parity with", "worst PSNR", "seconds"):
        table.add_column(name, justify="right" if name in ("MB", "seconds") else "left")
    for artefact in artefacts:
        figures = artefact.manifest.parity
        table.add_row(
            artefact.path.name,
            artefact.manifest.precision,
            f"{artefact.megabytes:.2f}",
            figures[0].reference,
            "\n".join(
                f"{figure.size[0]}x{figure.size[1]}: "
                + (figure.psnr_db if isinstance(figure.psnr_db, str) else f"{figure.psnr_db:.1f} dB")
                for figure in figures
            ),
            f"{artefact.seconds:.1f}",
        )
    return table
