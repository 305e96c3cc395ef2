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
    help="fp32, fp16, bf16, int8 (for ONNX Runtime), int8-tensorrt or fp8; give it once for each.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    default=("onnx",),
    show_default=True,
    help="What is to run the artefacts: onnx, or a runtime with files of its own; give it once for each.",
)
@click.option("--all", "everything", is_flag=True, help="Every precision and target; what is refused is listed.")
@click.option(
    "--keep-fp32", "keep_fp32", multiple=True, metavar="MODULE", help="Submodule to keep in fp32 (fp16, bf16)."
)
@click.option("--quantise-ends", is_flag=True, help="Quantise first and last convolution too (int8 and fp8).")
@click.option(
    "--profile", metavar="MIN,OPT,MAX", help="Shapes of a plan, batch x height x width: 1x64x64,1x256x384,4x512x768."
)
@click.option("--tf32", is_flag=True, help="Let a plan compute float32 products in TF32.")
@click.option(
    "--timing-cache", type=click.Path(path_type=Path, dir_okay=False), help="Kernel timings kept between builds."
)
@click.option(
    "--cross-check",
    type=click.Choice(["polygraphy"]),
    help="Run graphs and their fp32 reference once more by Polygraphy; inputs and outputs are kept beside them.",
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
    targets: tuple[str, ...],
    everything: bool,
    keep_fp32: tuple[str, ...],
    quantise_ends: bool,
    profile: str | None,
    tf32: bool,
    timing_cache: Path | None,
    cross_check: Literal["polygraphy"] | None,
    out: Path,
    calibration: str,
    calibration_count: int,
    method: Literal["minmax", "percentile", "entropy"],
    seed: int,
) -> None:
    """Turn a trained network into engines, each verified against its references.

    Every artefact gets a manifest, and the weights are kept beside it. One whose parity is broken is not written.
    """
    from rich.console import Console
    from rich.markup import escape

    from deploy_robust.app.export import export
    from deploy_robust.app.pairs import PairsRequest
    from deploy_robust.artefact.exporter import ExportSettings, ShapeProfile
    from deploy_robust.errors import ExportError

    console = Console()
    refused: dict[str, str] = {}
    shapes = None if profile is None else ShapeProfile.parse(profile)
    with Console(stderr=True).status("loading") as status:
        artefacts = export(
            out,
            checkpoint=checkpoint,
            model=model,
            preset=preset,
            precisions=() if everything else precisions,
            targets=targets,
            settings=ExportSettings(keep_fp32, quantise_ends, shapes, tf32, timing_cache, cross_check),
            pairs=PairsRequest(calibration, split="calibration", seed=seed, unpaired=_has_no_truth(calibration)),
            calibration_count=calibration_count,
            method=method,
            on_step=lambda step: status.update(step),
            on_refusal=refused.__setitem__ if everything else None,
        )
    if not artefacts:
        raise ExportError(f"nothing could be made: {next(iter(refused.values()))}")
    console.print(artefact_table(artefacts, out))
    for name, reason in refused.items():
        console.print(f"not made: [bold]{name}[/bold]: {escape(reason)}", highlight=False)


def _has_no_truth(calibration: str) -> bool:
    """A folder is read for its rainy images alone: neither calibration nor parity needs ground truth."""
    return calibration not in ("scenes", "photos")


def artefact_table(artefacts: list[ExportedArtefact], folder: Path) -> Table:
    """Each artefact with size, parity at every size against both references, clean quality, speed, time taken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=f"in {folder}", title_justify="left")
    sizes = list(dict.fromkeys(figure.size for artefact in artefacts for figure in artefact.manifest.parity))
    for name in ("artefact", "MB", "parity, dB", "clean dB", "speed", "s"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("artefact", "parity, dB") else "right")
    fp32 = next((a.verified.seconds for a in artefacts if a.path.name.endswith("-fp32.onnx")), None)
    notes: dict[str, list[str]] = {}
    for artefact in artefacts:
        verified, figures = artefact.verified, artefact.manifest.parity
        table.add_row(
            artefact.path.name,
            f"{artefact.megabytes:.2f}",
            "\n".join(
                f"{row:<8}" + " ".join(f"{_decibels(f.psnr_db):>5}" for f in figures if f.reference == row)
                for row in dict.fromkeys(figure.reference for figure in figures)
            ),
            "-" if verified.clean_psnr_db is None else f"{verified.clean_psnr_db:.2f}",
            "-" if fp32 is None or verified.seconds is None else f"{fp32 / verified.seconds:.2f}",
            f"{artefact.seconds:.1f}",
        )
        for note in verified.notes:
            notes.setdefault(note, []).append(artefact.path.name)
    checks = [(a.path.name, a.manifest.cross_check) for a in artefacts if a.manifest.cross_check is not None]
    captions = [
        f"parity: lowest PSNR at {', '.join(f'{h}x{w}' for h, w in sizes)}, with the network (torch) and with the "
        "artefact's own graph read literally",
        "speed: of one pass over the largest image, fp32 ONNX = 1",
        *(f"{', '.join(names)}: {note}" for note, names in notes.items()),
        *(
            f"{name}: {check.tool} measures {_decibels(check.psnr_db)} dB against the {check.reference} (max "
            f"{check.max_abs:.1e})"
            for name, check in checks
        ),
    ]
    table.caption, table.caption_justify = "\n".join(captions), "left"
    return table


def _decibels(figure: float | str) -> str:
    return figure if isinstance(figure, str) else f"{figure:.1f}"
