"""What the engine protocol and the Restorer cost over a bare ``session.run`` loop, on one session.

    OMP_NUM_THREADS=1 python benchmarks/engine_loop.py [FILE.onnx]

Each figure is CPU time of the bare loop divided by that of the wrapped one, median of five rounds in which the loops
take turns; 100 % means free. Without a file a network of 16 channels stands in, the smallest worth deploying.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
SECONDS_PER_LOOP = 0.3
GOAL = 0.95


def small_network(folder: Path) -> Path:
    from deploy_robust.exporters.onnx_fp32 import EXPORTER

    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    ]
    path = folder / "small.onnx"
    EXPORTER.export(ExportRequest(path, nn.Sequential(*layers), SizeRule(), lambda _: ()))
    return path


def cpu_time(step: Callable[[], object], count: int) -> float:
    started = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - started


def measure(path: Path, size: tuple[int, int]) -> dict[str, float]:
    engine, io = KIND.open(path, EngineOptions(threads=1))
    restorer = Restorer(engine, io)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    feed = {engine.session.get_inputs()[0].name: np.ascontiguousarray(x.numpy())}
    out = torch.empty_like(x)
    loops: dict[str, Callable[[], object]] = {
        "bare session.run": lambda: engine.session.run(None, feed),
        "Engine.run": lambda: engine.run(x),
        "Engine.run, out given": lambda: engine.run(x, out=out),
        "Restorer": lambda: restorer(x),
    }
    for loop in loops.values():
        loop()
    count = max(3, int(SECONDS_PER_LOOP / max(1e-6, cpu_time(loops["bare session.run"], 3) / 3)))
    rounds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        times = {name: cpu_time(loop, count) for name, loop in loops.items()}
        for name, seconds in times.items():
            rounds[name].append(times["bare session.run"] / seconds)
    return {name: statistics.median(ratios) for name, ratios in rounds.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else small_network(Path(folder))
        print(f"{path.name}, one thread, images/s relative to a bare loop (goal {GOAL:.0%})")
        for size in ((64, 64), (128, 128), (256, 256)):
            figures = measure(path, size)
            print(f"{size[0]}x{size[1]}: " + ", ".join(f"{name} {ratio:.1%}" for name, ratio in figures.items()))


if __name__ == "__main__":
    main()
