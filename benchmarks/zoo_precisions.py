"""Every network of the zoo in the precisions of a graph: checker, TensorRT's rules, both parities, or why not.

    python benchmarks/zoo_precisions.py [NAME ...] [--precision P] [--out FILE]

The preset is ``small``: shipped weights where there are some, else fresh ones of a fixed seed. With DEPLOY_ROBUST_DATA
the published PReNet is a row too, calibrated and verified on Rain100H. An artefact that breaks its parity is refused,
and the layer that spoils it named. Rows are kept; a network and precision that has its row is left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch

from deploy_robust.app.export import ExportedArtefact, export
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.models.checkpoints import save_checkpoint, shipped
from deploy_robust.models.registry import MODELS

RESULTS = Path(__file__).parent / "results" / "zoo-precisions.json"
PRECISIONS = ("fp32", "fp16", "int8-ort", "int8-tensorrt")
ORDER = ("fp32", "fp16", "bf16", "int8", "int8-tensorrt", "fp8")
SIZE = (64, 80)
"""(height, width) of the embedded scenes; verified at three other sizes, the largest of them this one."""
CALIBRATION = 8
OFFICIAL = "prenet official (Rain100H)"

Row = dict[str, Any]


def networks(names: list[str]) -> dict[str, dict[str, Any]]:
    """What `export` needs for each row of the table, by its title."""
    found: dict[str, dict[str, Any]] = {}
    scenes = PairsRequest("scenes", size=SIZE, split="calibration")
    for name in names or MODELS.names():
        if name not in MODELS.names():
            continue
        stem = f"{name}-small"
        what = {"checkpoint": stem} if stem in shipped() else {"fresh": name}
        found[f"{name} small ({'shipped' if stem in shipped() else 'fresh'})"] = {**what, "pairs": scenes}
    root = os.environ.get("DEPLOY_ROBUST_DATA")
    if root and (not names or "official" in names):
        found[OFFICIAL] = {
            "checkpoint": Path(root) / "checkpoints" / "prenet6_rain100h.pth",
            "model": "prenet",
            "preset": "official",
            "pairs": PairsRequest(str(Path(root) / "rain100h"), split="calibration"),
        }
    return found


def measure(what: dict[str, Any], precisions: list[str]) -> list[Row]:
    """One row for each precision: what was measured of it, or why it was refused."""
    refused: dict[str, str] = {}
    what = dict(what)
    with tempfile.TemporaryDirectory() as folder:
        if (name := what.pop("fresh", None)) is not None:
            torch.manual_seed(0)
            what["checkpoint"] = Path(folder) / "fresh.safetensors"
            save_checkpoint(what["checkpoint"], MODELS.create(name, "small").eval(), {})
        made = export(
            Path(folder) / "out",
            precisions=precisions,
            calibration_count=CALIBRATION,
            on_refusal=refused.__setitem__,
            **what,
        )
        rows = [row_of(artefact) for artefact in made]
    rows += [{"precision": name.split()[-1], "refused": why} for name, why in refused.items()]
    return rows


def row_of(artefact: ExportedArtefact) -> Row:
    """The checker and the rules once more on the file that was left, and the figures of its manifest."""
    onnx.checker.check_model(str(artefact.path), full_check=True)
    broken = findings(onnx.load(str(artefact.path)))
    figures = artefact.manifest.parity

    def lowest(reference: str) -> float | str | None:
        found = [each.psnr_db for each in figures if each.reference == reference]
        numbers = [each for each in found if not isinstance(each, str)]
        return min(numbers) if numbers else found[0] if found else None

    name = "int8" if artefact.manifest.exporter == "int8" else artefact.manifest.exporter
    return {
        "precision": name,
        "operators": len(onnx.load(str(artefact.path)).graph.node),
        "megabytes": round(artefact.megabytes, 2),
        "checker": "passed",
        "tensorrt_rules": "kept" if not broken else f"{len(broken)} broken: {sorted({each.rule for each in broken})}",
        "conversion_db": lowest("torch"),
        "conversion_max_abs": max(each.max_abs for each in figures if each.reference == "torch"),
        "fidelity_db": lowest("literal"),
        "largest_size": max((each.size for each in figures), key=lambda size: size[0] * size[1]),
        "clean_db": artefact.verified.clean_psnr_db,
        "notes": list(artefact.verified.notes),
        "seconds": round(artefact.seconds, 1),
    }


def shown(rows: list[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| network | precision | operators | MB | TensorRT's rules | conversion, dB | fidelity, dB | clean, dB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        start = f"| {row['network']} | {row['precision']} | "
        if "refused" in row:
            lines.append(f"{start}refused: {row['refused']} | | | | | |")
            continue
        cells = [decibels(row[key]) for key in ("conversion_db", "fidelity_db", "clean_db")]
        # uint8 codes with zero-points are what ONNX Runtime's CPU provider is fast with, and what TensorRT refuses.
        rules = "not made for it" if row["precision"] == "int8" else row["tensorrt_rules"].split(":")[0]
        lines.append(f"{start}{row['operators']} | {row['megabytes']} | {rules} | {' | '.join(cells)} |")
    return "\n".join(lines)


def decibels(figure: float | str | None) -> str:
    return "-" if figure is None else figure if isinstance(figure, str) else f"{figure:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks of the zoo, or 'official'; all where none is named")
    parser.add_argument("--precision", action="append", help=f"default: {', '.join(PRECISIONS)}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    asked = [{"int8-ort": "int8"}.get(name, name) for name in chosen.precision or PRECISIONS]
    rows: list[Row] = json.loads(chosen.out.read_text())["rows"] if chosen.out.exists() else []
    for title, what in networks(chosen.names).items():
        done = {row["precision"] for row in rows if row["network"] == title}
        if not (missing := [name for name in asked if name not in done]):
            continue
        print(f"{title}: {', '.join(missing)}", flush=True)
        rows += [{"network": title, **row} for row in measure(what, missing)]
        order, of_precision = [*networks([]), title], [*ORDER, *asked]
        rows.sort(key=lambda row: (order.index(row["network"]), of_precision.index(row["precision"])))
        chosen.out.parent.mkdir(exist_ok=True)
        conditions = {"torch": torch.__version__, "calibration": CALIBRATION, "seed": 0}
        chosen.out.write_text(json.dumps({"conditions": conditions, "rows": rows}, indent=1) + "\n")
    print(shown(rows))


if __name__ == "__main__":
    main()
