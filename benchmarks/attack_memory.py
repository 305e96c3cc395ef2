"""Memory of attacks: does it grow with the images, and what does one gradient of the full ensemble need?

    OMP_NUM_THREADS=1 python benchmarks/attack_memory.py --out benchmarks/results/attack-memory.json

Images: the largest resident memory of ``deploy-robust attack`` and its process for batches, for few and for many pairs.
Step: one gradient of LMSE through the published ensemble (random weights), plain and with recomputed activations, each
in a process of its own under a limit on its address space; what it needs above what it held before the step is fitted
by a line in the number of pixels. ``--full`` runs 1920x1080 itself; otherwise that figure is the line's, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

FULL = (1080, 1920)
SIZES = ((48, 80), (64, 112), (96, 160))
GOAL_GIB = 24
LIMIT_GIB = 23


def step(height: int, width: int, recomputed: bool) -> None:
    """In a process of its own: prints how much the step needed above what was held before it, and its CPU time."""
    import torch

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.pgd import pgd_lmse
    from deploy_robust.models.recompute import recompute
    from deploy_robust.models.registry import MODELS
    from deploy_robust.restorer import pad_to_rule

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    network = MODELS.create("mprnet-r-seadd-mb", "benchmark").eval().requires_grad_(False)
    if recomputed:
        recompute(network)

    def restore(x: torch.Tensor) -> torch.Tensor:
        return network(pad_to_rule(x, network.size_rule))[..., : x.shape[-2], : x.shape[-1]]

    small = torch.rand(1, 3, 16, 16).requires_grad_()
    torch.autograd.grad(network(small).sum(), small)  # libraries and their buffers
    x = torch.rand(1, 3, height, width)
    task = Task(x, torch.full((1, 1, 1, 1), 4 / 255), 0, (("image", "memory"),), restore, x)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    pgd_lmse(iterations=1, keep_best=False).craft(task)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"mib": (after - before) / 1024, "peak_mib": after / 1024, "cpu_s": time.process_time() - started})
    )


def measured(height: int, width: int, *, recomputed: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", str(height), str(width), *(["--recomputed"] if recomputed else [])]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_GIB * 2**30, LIMIT_GIB * 2**30))

    # At full size every activation is mapped on its own and given back; at small sizes the heap would keep and scatter
    # them, and the line would be that of its fragments.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, check=True, env=environment)
    found: dict[str, float] = json.loads(ended.stdout)
    print(f"{width}x{height} {'recomputed' if recomputed else 'plain'}: {found}", flush=True)
    return found


def line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """MiB for each pixel, and where there are none."""
    slope, start = np.polyfit([pixels for pixels, _ in points], [mib for _, mib in points], 1)
    return float(slope), float(start)


def peak_of_attack(pairs: int, folder: Path) -> float:
    """Largest resident memory, MiB, of the command and its children together, asked ten times a second."""
    command = [sys.executable, "-m", "deploy_robust", "attack", "--source", "prenet-small", "--attack", "pgd-lmse"]
    asked = ["--epsilon", "4/255", "--size", "64", "--limit", str(pairs), "--threads", "1", "-q"]
    process = subprocess.Popen([*command, *asked, "--out", str(folder / f"set-{pairs}")])
    largest = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not ended.wait(0.1):
            largest = max(largest, sum(map(_resident, _family(process.pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    code = process.wait()
    ended.set()
    thread.join()
    if code:
        raise SystemExit(f"the attack ended with {code}")
    return largest


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--recomputed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help="run 1920x1080 itself: much time, and the memory it needs")
    parser.add_argument("--pairs", type=int, nargs=2, default=(2, 12), help="few and many")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.step:
        step(*args.step, args.recomputed)
        return

    pixels = FULL[0] * FULL[1]
    ways = {}
    for name, recomputed in (("plain", False), ("recomputed", True)):
        rows = {size: measured(*size, recomputed=recomputed) for size in SIZES}
        slope, start = line([(size[0] * size[1], row["mib"]) for size, row in rows.items()])
        ways[name] = {
            "mib_above_start": {f"{w}x{h}": round(row["mib"], 1) for (h, w), row in rows.items()},
            "cpu_s": {f"{w}x{h}": round(row["cpu_s"], 1) for (h, w), row in rows.items()},
            "kib_per_pixel": round(slope * 1024, 2),
            "extrapolated_gib_at_1920x1080": round((slope * pixels + start) / 1024, 2),
        }
    if args.full:
        ways["recomputed"]["measured_gib_at_1920x1080"] = round(measured(*FULL, recomputed=True)["peak_mib"] / 1024, 2)
    with tempfile.TemporaryDirectory() as folder:
        few, many = (peak_of_attack(count, Path(folder)) for count in args.pairs)
    result = {
        "what": "peak resident memory: one LMSE gradient of mprnet-r-seadd-mb/benchmark, one image, fp32, one process; "
        "and deploy-robust attack on prenet-small, 64 px",
        "python": platform.python_version(),
        "goal_gib": GOAL_GIB,
        "step": ways,
        "images": {f"{args.pairs[0]} pairs, MiB": round(few, 1), f"{args.pairs[1]} pairs, MiB": round(many, 1)},
        "growth": round(many / few, 4),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
