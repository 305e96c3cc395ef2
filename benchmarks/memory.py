"""Memory of a check over many images: does it grow?

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--images 2000] [--out FILE.json]

The real command, on a folder of 32x32 pairs, with an ONNX file that answers its input and a source that does the same,
so that what is left is ours: reading, noise, metrics, transactions, judging, reports. Resident memory of both processes
is read five times a second. Flat means: the largest figure after the first 200 images is at most 5 % above the largest
one before, for each process while images are measured and for both together over the whole run. The reports, which hold
all cases at once, are also counted apart: they are written when the process for batches has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

WARM = 200
GOAL = 1.05
SOURCE = "from torch import nn\n\n\ndef build():\n    return nn.Identity()\n"
POLICY = """
schema = 1
name = "cheap"
[threat]
levels = [2]
[attacks.uniform]
[parity]
minimum_pairs = 8
fp32 = { conversion = 90 }
[[requirement]]
name = "collapse"
quantity = "drop"
statistic = "max"
levels = [2]
at_most = 60
"""


def make_folder(folder: Path, images: int) -> None:
    shape = ["n", 3, "h", "w"]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, str(folder / "identity.onnx"))
    (folder / "identity_source.py").write_text(SOURCE)
    (folder / "cheap.toml").write_text(POLICY)
    generator = np.random.default_rng(0)
    for name in ("rain", "norain"):
        (folder / "pairs" / name).mkdir(parents=True)
    for index in range(images):
        clean = np.kron(generator.integers(40, 200, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        rainy = np.where(generator.random((32, 32, 1)) < 0.1, 255, clean).astype(np.uint8)
        for name, image in (("rain", rainy), ("norain", clean)):
            Image.fromarray(image).save(folder / "pairs" / name / f"{index:05d}.png")


def resident(pid: int) -> float:
    """Resident memory in MB; 0 for a process that has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def done(store: Path) -> int:
    """Images that are finished; pairs have two cases."""
    if not store.is_file():
        return 0
    try:
        with sqlite3.connect(store) as db:
            return int(db.execute("SELECT COALESCE(SUM(cases), 0) FROM batch").fetchone()[0]) // 2
    except sqlite3.Error:
        return 0


def measure(folder: Path) -> tuple[list[tuple[int, float, float]], int]:
    command = [
        sys.executable,
        "-m",
        "deploy_robust",
        "check",
        "--engine",
        "identity.onnx",
        "--data",
        "pairs",
        "--quiet",
    ]
    command += ["--source", "identity_source:build", "--policy", "cheap.toml", "--threads", "1", "--out", "run"]
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": root})
    samples = []
    while process.poll() is None:
        worker = sum(resident(child) for child in children(process.pid))
        samples.append((done(folder / "run" / "run.sqlite"), resident(process.pid), worker))
        time.sleep(0.2)
    return samples, process.returncode


def largest(samples: list[tuple[int, float, float]], which: int, start: int, end: int) -> float:
    return max((sample[which] for sample in samples if start <= sample[0] < end), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    images: int = arguments.images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder, images)
        started = time.perf_counter()
        samples, code = measure(folder)
        seconds = time.perf_counter() - started
        store = (folder / "run" / "run.sqlite").stat().st_size / 1e6
        page = (folder / "run" / "report.html").stat().st_size / 1e6
    figures = {"images": images, "exit_code": code, "seconds": round(seconds, 1), "store_MB": round(store, 1)}
    figures |= {"report_html_MB": round(page, 2)}
    for which, role in ((1, "parent"), (2, "worker")):
        before, after = largest(samples, which, 1, WARM), largest(samples, which, WARM, images)
        end = largest(samples, which, images, images + 1)
        figures |= {f"{role}_first_{WARM}_MB": round(before, 1), f"{role}_after_MB": round(after, 1)}
        figures |= {f"{role}_growth": round(after / before - 1, 4), f"{role}_reports_MB": round(end, 1)}
    together = [(finished, parent + worker, 0.0) for finished, parent, worker in samples]
    before, after = largest(together, 1, 1, WARM), largest(together, 1, WARM, images + 1)
    figures |= {"together_growth": round(after / before - 1, 4)}
    figures["flat"] = all(figures[f"{which}_growth"] <= GOAL - 1 for which in ("parent", "worker", "together"))
    for key, value in figures.items():
        print(f"{key:>24}  {value}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
