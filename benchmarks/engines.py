"""What the engine protocol and the Restorer cost over a bare loop on the runtime's own object, for each engine here.

    OMP_NUM_THREADS=1 python benchmarks/engines.py --out benchmarks/results/engines-cpu.json

Each figure is CPU time of the bare loop divided by that of the wrapped one, median of nine rounds in which the loops
take turns; 100 % means free. One thread. `prenet-small` in fp32 and int8, and a network of three convolutions, the
smallest worth deploying, on which fixed costs weigh most. Runtimes that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from deploy_robust.app.registries import engine_kind
from deploy_robust.artefact.exporter import Calibration, ExportRequest
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.errors import DeployRobustError
from deploy_robust.exporters import int8_ort, onnx_fp32
from deploy_robust.models.checkpoints import load_any
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from deploy_robust.engine import Engine

ROUNDS = 9
SECONDS_PER_LOOP = 0.3
GOAL = 0.95
SIZES = ((64, 64), (128, 128), (256, 256))


def three_convolutions() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    ]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def networks() -> dict[str, nn.Module]:
    network, _ = load_any("prenet-small")
    return {
        "prenet-small": network.for_export().eval().requires_grad_(False),
        "three convolutions": three_convolutions(),
    }


def images() -> Iterator[np.ndarray]:
    draw = np.random.default_rng(0)
    for _ in range(4):
        yield draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def artefacts(name: str, network: nn.Module, folder: Path, *, compiled: bool) -> dict[str, Path]:
    """Precision to file: the two ONNX graphs, and the compiled package where a compiler may take a minute."""
    stem = name.replace(" ", "-")
    made = {"fp32": folder / f"{stem}.onnx", "int8": folder / f"{stem}-int8.onnx"}
    onnx_fp32.EXPORTER.export(ExportRequest(made["fp32"], network, SizeRule(), lambda _: ()))
    request = ExportRequest(
        made["int8"], network, SizeRule(), lambda _: (), graph=made["fp32"], calibration=Calibration(images)
    )
    int8_ort.EXPORTER.export(request)
    if compiled:
        made["package"] = compile_package(network, folder / f"{stem}.pt2")
    return made


def compile_package(network: nn.Module, path: Path) -> Path:
    from torch._inductor import aoti_compile_and_package
    from torch.export import Dim

    sizes = {0: Dim("n", min=1), 2: Dim("h", min=32), 3: Dim("w", min=32)}
    program = torch.export.export(network, (torch.zeros(2, 3, 64, 96),), dynamic_shapes=(sizes,))
    aoti_compile_and_package(program, package_path=str(path))
    return path


def bare(engine: Any, x: Tensor) -> Callable[[], object]:
    """The tightest loop body that the runtime itself offers for this input."""
    kind = engine.capabilities.runtime.split()[0]
    if kind == "onnxruntime":
        feed = {engine.session.get_inputs()[0].name: np.ascontiguousarray(x.numpy())}
        return lambda: engine.session.run(None, feed)
    if kind == "openvino":
        import openvino

        request = engine.request
        answer = engine.run(x)
        taken, given = (openvino.Tensor(t.numpy(), shared_memory=True) for t in (x, answer))
        # The tensors that the wrapped loops set stay theirs: this loop needs a request of its own.
        request = request.get_compiled_model().create_infer_request()
        request.set_input_tensor(taken)
        request.set_output_tensor(given)
        return lambda: (request.infer(), taken, given)
    if kind == "aotinductor":
        return lambda: engine.package(x)
    return lambda: engine.module(x)


def cpu_time(step: Callable[[], object], count: int) -> float:
    started = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - started


def measure(engine: Engine, io: Any, size: tuple[int, int]) -> dict[str, float]:
    restorer = Restorer(engine, io)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    loops: dict[str, Callable[[], object]] = {
        "bare": bare(engine, x),
        "engine": lambda: engine.run(x),
        "engine, out given": lambda: engine.run(x, out=out),
        "restorer": lambda: restorer(x),
    }
    for loop in loops.values():
        loop()
        loop()
    count = max(3, int(SECONDS_PER_LOOP / max(1e-6, cpu_time(loops["bare"], 3) / 3)))
    rounds: dict[str, list[float]] = {name: [] for name in loops if name != "bare"}
    for _ in range(ROUNDS):
        times = {name: cpu_time(loop, count) for name, loop in loops.items()}
        for name in rounds:
            rounds[name].append(times["bare"] / times[name])
    return {name: round(statistics.median(ratios), 4) for name, ratios in rounds.items()}


def engines(network: nn.Module, files: dict[str, Path]) -> Iterator[tuple[str, Any, Any] | tuple[str, str]]:
    """Every engine with its I/O description, or the reason why there is none."""
    from deploy_robust.artefact.io_description import IODescription

    yield "torch", TorchEngine(network), IODescription()
    wanted = [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")]
    if "package" in files:
        wanted.append(("aotinductor", "package"))
    for kind, precision in wanted:
        name = f"{kind} {precision}"
        vouched = sha256_of(files[precision]) if kind == "aotinductor" else None
        try:
            yield name, *engine_kind(kind).open(files[precision], EngineOptions(threads=1, vouched=vouched))
        except DeployRobustError as error:
            yield name, str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--no-package", action="store_true", help="compile nothing (saves minutes)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for name, network in networks().items():
            files = artefacts(name, network, Path(folder), compiled=not args.no_package)
            for label, *opened in engines(network, files):
                if len(opened) == 1:
                    left_out[label] = str(opened[0])
                    continue
                engine, io = opened
                for size in SIZES:
                    figures = measure(engine, io, size)
                    met = all(ratio >= GOAL for ratio in figures.values())
                    row = {"network": name, "path": label, "runtime": engine.capabilities.runtime}
                    found.append({**row, "size": list(size), **figures, "goal met": met})
                    said = ", ".join(f"{what} {ratio:.1%}" for what, ratio in figures.items())
                    print(f"{name}, {label}, {size[0]} px: {said}{'' if met else f'  (below {GOAL:.0%})'}", flush=True)
    for label, reason in left_out.items():
        print(f"{label}: left out: {reason}")
    if args.out:
        result = {
            "what": "CPU time of a bare loop on the runtime's own object over that of the wrapped one, one thread, "
            f"median of {ROUNDS} rounds in turn",
            "goal": GOAL,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "figures": found,
            "left_out": left_out,
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
