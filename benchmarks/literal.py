"""What interpreting a graph costs: forward and backward to the input, against the torch module it was made from.

CPU time, one thread; module and graphs run one after another within a round, ratios are taken within the round, and
the median over rounds is reported.

    python benchmarks/literal.py --out benchmarks/results/literal-cpu.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime
import torch

from deploy_robust.engines.literal import LiteralEngine
from deploy_robust.exporters.onnx_fp32 import to_onnx
from deploy_robust.models.registry import MODELS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "engines"))
import literal_graphs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

GOALS = {"fp32": 1.1, "int8, uint8 asymmetric": 1.6, "int8, symmetric": 1.9}


def forward_and_back(network: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """CPU seconds of one loss and its gradient with respect to the input."""
    start = time.process_time()
    z = x.detach().requires_grad_()
    torch.autograd.grad(network(z).square().sum(), z)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="PReNet preset")
    parser.add_argument("--size", type=int, default=64, help="side of the image in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = MODELS.create("prenet", args.preset).eval().requires_grad_(False)
    graph = to_onnx(net, net.size_rule)
    quantised = {
        "int8, uint8 asymmetric": literal_graphs.asymmetric(graph),
        "int8, symmetric": literal_graphs.symmetric(graph),
    }
    candidates: dict[str, Callable[[Tensor], Tensor]] = {"module": net, "fp32": LiteralEngine(graph).run}
    for name, model in quantised.items():
        candidates[name] = LiteralEngine(model).run
        candidates[f"{name}, gradient passed"] = LiteralEngine(model, gradient="pass").run

    x = literal_graphs.rainy(args.size, args.batch)
    ratios: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(args.rounds + 2):  # the first two rounds warm up
        seconds = {name: forward_and_back(network, x) for name, network in candidates.items()}
        if turn >= 2:
            for name in candidates:
                ratios[name].append(seconds[name] / seconds["module"])

    result = {
        "what": f"forward and backward to the input, batch of {args.batch} images of {args.size} px, PReNet "
        f"{args.preset}, random weights, CPU time, one thread, ratios to the torch module within a round",
        "rounds": args.rounds,
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "goals": GOALS,
        "candidates": {
            name: {"ratio_median": round(statistics.median(v), 3), "ratios": [round(r, 3) for r in v]}
            for name, v in ratios.items()
            if name != "module"
        },
    }
    for name, figures in result["candidates"].items():
        goal = f"goal {GOALS[name]}" if name in GOALS else ""
        print(f"{name:40} {figures['ratio_median']:.3f}x the module  {goal}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
