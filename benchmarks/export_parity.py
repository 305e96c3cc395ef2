"""Exports every network of the zoo at its published sizes and compares ONNX Runtime with torch at three unseen sizes.

    python benchmarks/export_parity.py [NAME ...]

Weights are fresh; what is measured is the graph. Rows are kept in ``benchmarks/results/export-parity.json``, a
network that has its row is left alone, and ``docs/export_parity.md`` is written from the rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.exporters.onnx_fp32 import EXPORTER
from deploy_robust.gate.parity import ImageParity, compare, worst
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import Restorer

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "export-parity.json"
PAGE = HERE.parent / "docs" / "export_parity.md"
SIZES = ((96, 160), (80, 48), (67, 93))
"""The exporter's example is 64x96; the last size breaks every size rule."""
PRESETS = ("official", "official-r", "benchmark", "practical", "rc")

HEAD = """# Export of the published networks

Written by `python benchmarks/export_parity.py`: fresh weights, FP32, ONNX Runtime on a CPU against torch, through the
one wrapper that pads and crops. The example is 64x96; 67x93 breaks every size rule. Figures are in [0, 1] units, the
worst of the three sizes; a network must stay below 1e-4 and above 90 dB.

| network | preset | operators | MB | largest difference | PSNR, dB | export, s |
| --- | --- | --- | --- | --- | --- | --- |
"""


def measure(name: str, preset: str) -> dict[str, str | float | int]:
    """One row: exports, and compares at every size."""
    import onnx

    torch.manual_seed(0)
    model = MODELS.create(name, preset).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        started = time.perf_counter()
        EXPORTER.export(ExportRequest(path, model.for_export(), model.size_rule, verify=lambda _: ()))
        seconds = time.perf_counter() - started
        io = IODescription(size=model.size_rule)
        engine, _ = KIND.open(path, EngineOptions(io=io))
        source, restorer = Restorer(TorchEngine(model), io), Restorer(engine, io)
        random = torch.Generator().manual_seed(1)
        figures: list[ImageParity] = []
        for height, width in SIZES:
            x = torch.rand(1, 3, height, width, generator=random)
            with torch.no_grad():
                figures += compare(source(x), restorer(x))
        restorer.close()
        low = worst(figures)
        return {
            "network": name,
            "preset": preset,
            "operators": len(onnx.load(str(path)).graph.node),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "max_abs": low.max_abs,
            "psnr_db": round(low.psnr_db, 1),
            "seconds": round(seconds, 1),
        }


def main(names: list[str]) -> None:
    """Fills in what is missing."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = {(row["network"], row["preset"]) for row in rows}
    for name in names or MODELS.names():
        seen = set()
        for preset, arguments in MODELS.spec(name).presets.items():
            same = json.dumps(arguments, sort_keys=True)
            if preset not in PRESETS or same in seen:
                continue
            seen.add(same)
            if (name, preset) in done:
                continue
            rows.append(measure(name, preset))
            print(rows[-1], flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        f"| {r['network']} | {r['preset']} | {r['operators']} | {r['megabytes']} | {r['max_abs']:.1e} | "
        f"{r['psnr_db']} | {r['seconds']} |"
        for r in sorted(rows, key=lambda r: (r["network"], r["preset"]))
    ]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
