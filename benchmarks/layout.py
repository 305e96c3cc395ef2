"""What channels last saves on a CPU: time of one forward and backward pass to the input, against torch's own layout.

Every small network of the zoo, random weights, the batch of one image at four epsilons; one thread, in turn within a
round, ratios of the same round. The image arrives in torch's layout and the answer leaves in it, as in a check.

    python benchmarks/layout.py --out benchmarks/results/layout-cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NETWORKS = (
    *(("prenet", preset) for preset in ("tiny", "small", "official")),
    *((name, "small") for name in ("rescan", "mprnet", "umrl", "jorder-e", "rcdnet", "mprnet-r-seadd-mb")),
)
ROWS = 4


def gradient(network: Callable[[Tensor], Tensor], x: Tensor, reference: Tensor) -> Tensor:
    z = x.detach().requires_grad_()
    (found,) = torch.autograd.grad((network(z) - reference).square().mean(), z)
    return found


def measure(name: str, preset: str, size: int, rounds: int) -> dict[str, float | list[float]]:
    torch.manual_seed(0)
    network = MODELS.create(name, preset)
    fast = TorchEngine(network).run
    x = torch.rand(ROWS, 3, size, size)
    with torch.no_grad():
        reference = network(x) + 0.01
    ratios = []
    for turn in range(rounds + 1):  # the first round warms up
        seconds = []
        for way in (network, fast):
            start = time.process_time()
            gradient(way, x, reference)
            seconds.append(time.process_time() - start)
        if turn:
            ratios.append(seconds[1] / seconds[0])
    plain, quick = (gradient(way, x, reference) for way in (network, fast))
    return {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "gradients_apart": float((plain - quick).abs().max() / plain.abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()

    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    networks = {}
    for name, preset in NETWORKS:
        found = networks[f"{name}/{preset}"] = measure(name, preset, args.size, args.rounds)
        print(f"{name + '/' + preset:26} {found['ratio_median']:.2f}   gradients {found['gradients_apart']:.0e} apart")
    result = {
        "what": f"channels last over torch's layout: CPU time of a forward and backward pass to the input, {ROWS} rows "
        f"of {args.size} px, random weights, one thread, ratios within a round",
        "rounds": args.rounds,
        "load average when it began": round(load, 1),
        "python": platform.python_version(),
        "versions": {"torch": torch.__version__},
        "networks": networks,
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
