"""An engine that is damaged and looks robust: OpenVINO on ONNX Runtime's int8 file, on a CPU without VNNI.

ONNX Runtime's own recipe quantises weights to eight bits and activations asymmetrically. Without VNNI, OpenVINO adds
two products of 8-bit codes in 16 bits, which saturate. `ONEDNN_MAX_CPU_ISA` makes any x86 CPU one without VNNI:

    deploy-robust export --checkpoint prenet6_rain100h.pth --model prenet --preset official --precision fp32 \
        --precision int8 --calibration $DEPLOY_ROBUST_DATA/rain100h --out official
    ONEDNN_MAX_CPU_ISA=AVX512_CORE python benchmarks/damaged_engine.py official --data $DEPLOY_ROBUST_DATA/rain100h \
        --out benchmarks/results/damaged-engine.json

Needs openvino. Beside the eight-bit file on both runtimes stands the exported one, with weights of seven bits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from deploy_robust.app.compare import OWN, CompareRequest, NamedEngine, compare
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.run_plan import versions
from deploy_robust.artefact.manifest import FileRecord, read_manifest
from deploy_robust.engine import EngineOptions
from deploy_robust.gate.policy import load_policy

if TYPE_CHECKING:
    from deploy_robust.gate.policy import Policy
    from deploy_robust.report.comparison.records import Comparison

CALIBRATION = 4
"""Images that set the ranges; the comparison does without them."""


class Images(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    """The last images of a folder, one at a time."""

    def __init__(self, name: str, pairs: PairsRequest) -> None:
        source = open_pairs(pairs)
        last = [source[len(source) - 1 - i].rainy for i in range(CALIBRATION)]
        self._batches = iter([{name: image.transpose(2, 0, 1)[None].astype(np.float32) / 255} for image in last])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def eight_bits(graph: Path, pairs: PairsRequest) -> Path:
    """ONNX Runtime's int8 file of a float32 graph, with a manifest that names its weights."""
    path = graph.with_name(graph.name.replace("fp32", "int8-eight-bits"))
    reader = Images(onnx.load(graph).graph.input[0].name, replace(pairs, limit=None))
    quantize_static(
        *(str(graph), str(path), reader),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    manifest = read_manifest(graph)
    if manifest is None:
        raise SystemExit(f"{graph} has no manifest: export it first")
    record = FileRecord.of(path)
    replace(manifest, artefact=record, precision="int8", exporter="onnxruntime.quantization", parity=()).write(
        path.parent
    )
    return path


def policy(levels: tuple[float, ...]) -> Policy:
    """The default one at fewer epsilons."""
    whole = load_policy("default")
    lines = (replace(r, levels=tuple(x for x in r.levels if x in levels)) for r in whole.requirements)
    kept = tuple(new for new, old in zip(lines, whole.requirements, strict=True) if new.levels or not old.levels)
    return replace(whole, levels=levels, requirements=kept)


def rows(found: Comparison) -> list[dict[str, Any]]:
    """What stands in the documentation."""
    attack = next(column.name for column in found.columns if column.source is not None)
    names = [engine.name for engine in found.engines] + [source.name for source in found.sources if source.attacks]
    clean = {row.name: row.clean for row in (*found.engines, *found.sources)}
    engines = {engine.name: engine for engine in found.engines}
    return [
        {
            "name": name,
            "clean": clean[name],
            "conversion_db": engines[name].conversion_db if name in engines else None,
            "void": engines[name].void if name in engines else "",
            "attacked": {
                f"{level:g}": {"mean": cell.mean, "gap": None if cell.gap is None else vars_of(cell.gap)}
                for level in found.levels
                if (cell := found.cell(name, attack, level)) is not None
            },
        }
        for name in names
    ]


def vars_of(gap: Any) -> list[float | None]:
    return [gap.mean, gap.low, gap.high]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with *-fp32.onnx and *-int8.onnx from `export`")
    parser.add_argument("--data", required=True)
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--levels", type=float, nargs="+", default=[2.0, 4.0])
    parser.add_argument("--run", type=Path, default=Path("runs/damaged-engine"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    (fp32,), (seven,) = given.folder.glob("*-fp32.onnx"), given.folder.glob("*-int8.onnx")
    pairs = PairsRequest(given.data, limit=given.images, crop=(given.crop, given.crop))
    eight = eight_bits(fp32, pairs)
    options = EngineOptions(threads=1)
    engines = (
        NamedEngine("eight bits, ONNX Runtime", EngineRequest(eight, options)),
        NamedEngine("eight bits, OpenVINO", EngineRequest(eight, options, kind="openvino")),
        NamedEngine("seven bits, OpenVINO", EngineRequest(seven, options, kind="openvino")),
    )
    request = CompareRequest(engines, given.run, (OWN,), pairs=pairs, policy=policy(tuple(given.levels)), threads=1)
    found = compare(request).comparison
    result = {
        "machine": platform.processor() or platform.machine(),
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "not limited"),
        "versions": versions(),
        "images": found.images,
        "crop": given.crop,
        "rain": found.rain,
        "rows": rows(found),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["rows"], indent=1))


if __name__ == "__main__":
    main()
