"""Parity, throughput and PGD speed of every engine that runs on this machine's NVIDIA GPU, in one table.

    python benchmarks/gpu.py                     # writes benchmarks/results/<gpu>-<date>.json
    python benchmarks/gpu.py --batch 1 --batch 16 --size 128

Runs with whatever torch (2.11 or newer), onnxruntime and TensorRT are there, installed or not, and from a checkout
that is not installed. What cannot run says so in its row. Without a GPU: one line, exit code 2.

    img/s     images in a second through `Restorer`, on the device from end to end
    limit     share of the card's own limit: the time that the network's products need at the measured matmul rate of
              the same type (or input, output and weights at the copy rate, if longer), over the time taken
    copies    between host and device for each batch, as the driver saw them
    PGD-20    images in a second, attacked by PGD-20 crafted on torch and then run through the engine

Below the table: local credit through every engine, its queries in a second over those of the bare engine, what one
more query copies and waits for (0 each), and the PSNR that it leaves on the device and on a CPU (within 0.1 dB).
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import platform
import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if importlib.util.find_spec("deploy_robust") is None:  # a checkout that is not installed will do
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from deploy_robust.restorer import Restorer

STEPS = 20
IMAGES = 8
"""Of the parity figures."""

_PACKAGES = ("torch", "onnx", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-cu12", "tensorrt-cu13", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, action="append", help="images together; repeat  [default: 1, 8, 32]")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--quick", action="store_true", help="small matrices and one batch: does everything run?")
    parser.add_argument("--out", type=Path, help="JSON file  [default: benchmarks/results/<gpu>-<date>.json]")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"no NVIDIA GPU that torch {torch.__version__} can use: nothing was measured")
        sys.exit(2)
    device = torch.device("cuda", 0)
    name = torch.cuda.get_device_name(device)
    batches = args.batch or ([2] if args.quick else [1, 8, 32])
    print(f"{name}, torch {torch.__version__}", flush=True)
    result = measure(device, batches, 64 if args.quick else args.size, quick=args.quick)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    out = args.out or ROOT / "benchmarks" / "results" / f"{slug}-{dt.datetime.now(dt.UTC):%Y-%m-%d}.json"
    out.write_text(json.dumps({"gpu": name, **result}, indent=1) + "\n", encoding="utf-8")
    print_table(result)
    print(f"written to {out}")


def measure(device: torch.device, batches: list[int], size: int, *, quick: bool) -> dict[str, Any]:
    """Everything, as plain data; runs on a CPU too, where the figures mean nothing."""
    import gpu_measure
    import gpu_paths
    import gpu_searches

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    limits = gpu_measure.limits(device, quick=quick)
    network = gpu_paths.network_of_the_zoo().to(device)
    rows: list[dict[str, Any]] = []
    searches: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
        for label, kind, opened in gpu_paths.paths(network, device, Path(folder)):
            if isinstance(opened, str):
                rows.append({"engine": label, "cannot run": opened})
                print(f"{label}: cannot run: {opened}", flush=True)
                continue
            try:
                fixed = {"engine": label, "runs": gpu_paths.described(opened), "parity": parity_of(network, opened)}
                side = 64 if quick else 128
                found = gpu_searches.search_of(opened, network, images(2, side, side).to(device))
                searches.append({"search through": label, **found})
                for batch in batches:
                    speed = speed_of(network, opened, device, batch, size, limits, kind)
                    rows.append({**fixed, "batch": batch, "size": size, **speed})
                    print(f"{label}, batch {batch}: {speed['images/s']:.1f} img/s", flush=True)
            except Exception as error:  # one path that fails must not hide the others
                torch.cuda.empty_cache()
                rows.append({"engine": label, "cannot run": gpu_paths.reason(error)})
                print(f"{label}: {gpu_paths.reason(error)}", flush=True)
            finally:
                opened.close()
        attacks = [attack_of(network, device, batch, size) for batch in batches]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "what": "prenet-small; fp32 without TF32; times are medians of 7 rounds, by CUDA events",
        "python": platform.python_version(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))) if device.type == "cuda" else None,
        "versions": dict(versions()),
        "limits": limits,
        "engines": rows,
        "pgd on torch": attacks,
        "searches": searches,
    }


def versions() -> Iterator[tuple[str, str]]:
    yield "cuda of torch", str(torch.version.cuda)
    yield "cudnn", str(torch.backends.cudnn.version())
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def images(count: int, height: int, width: int) -> Tensor:
    """The same on every machine: (N, 3, H, W) in [0.5, 1]."""
    from deploy_robust import keyed

    return torch.from_numpy(keyed.uniform(0, "gpu", shape=(count, 3, height, width))).float().mul(0.5).add(0.5)


def parity_of(network: nn.Module, restorer: Restorer) -> dict[str, Any]:
    """The worst of eight images of two sizes, against the network in float32 on the CPU."""
    import copy

    from deploy_robust.gate.parity import CONVERSION, parity, worst

    reference = copy.deepcopy(network).cpu()
    batches = [images(IMAGES // 2, 64, 96), images(IMAGES // 2, 97, 61)]
    figure = worst(list(parity(reference, restorer, batches)))
    bound = CONVERSION.get(restorer.capabilities.precision)
    return {
        "psnr_db": "identical" if figure.identical else round(figure.psnr_db, 1),
        "max_abs": figure.max_abs,
        "bound": None if bound is None else str(bound),
        "holds": None if bound is None else bound.holds(figure),
    }


def speed_of(
    network: nn.Module,
    restorer: Restorer,
    device: torch.device,
    batch: int,
    size: int,
    limits: dict[str, float],
    products: str,
) -> dict[str, Any]:
    """Throughput of one engine, its share of the card's limit, its copies, and PGD-20 seen through it."""
    import gpu_measure

    x = images(batch, size, size).to(device)
    with torch.no_grad():
        taken = gpu_measure.seconds(lambda: restorer(x), device)
        seen = gpu_measure.copies(lambda: restorer(x), device)
    weights = sum(parameter.nbytes for parameter in network.parameters())
    work = gpu_measure.operations(network, x)
    least = gpu_measure.least_seconds(work, 2 * x.nbytes + weights, limits, products)
    attacked = gpu_measure.seconds(lambda: restorer(crafted(network, x)), device, rounds=3, least=1)
    return {
        "images/s": batch / taken,
        "share of the limit": least / taken,
        "copies per batch": seen if seen is not None else "not measured: the profiler saw no kernel",
        "PGD-20, images/s": batch / attacked,
    }


def crafted(network: nn.Module, x: Tensor) -> Tensor:
    """PGD-20 on LMSE at 2/255, delivered as 8 bits."""
    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.pgd import pgd_lmse

    with torch.no_grad():
        clean = network(x)
    eps = torch.full((x.shape[0], 1, 1, 1), 2 / 255, device=x.device)
    keys = tuple(("image", row) for row in range(x.shape[0]))
    task = Task(x=x, eps=eps, seed=0, keys=keys, restore=network, clean_output=clean)
    return pgd_lmse(iterations=STEPS).craft(task).images.mul(255).round().div(255)


def attack_of(network: nn.Module, device: torch.device, batch: int, size: int) -> dict[str, Any]:
    """PGD-20 on torch: what its gradients cost at the least, launched kernel by kernel and as one captured graph."""
    import gpu_measure

    x = images(batch, size, size).to(device)
    with torch.no_grad():
        clean = network(x)
    z = x.clone()

    def step() -> Tensor:
        at = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((network(at) - clean).square().mean((1, 2, 3)).sum(), at)
        moved = z + gradient.sign() / 510
        return z.copy_(torch.minimum(torch.maximum(moved, x - 2 / 255), x + 2 / 255).clamp_(0, 1))

    found: dict[str, Any] = {"batch": batch, "size": size}
    try:
        eager = gpu_measure.seconds(step, device) * STEPS
        found["20 steps, images/s"] = batch / eager
        ours = gpu_measure.seconds(lambda: crafted(network, x), device, rounds=3, least=1)
        found["the attack, images/s"] = batch / ours
        found["the attack over 20 steps"] = ours / eager
        if device.type == "cuda":
            replay = gpu_measure.captured(step, device)
            graph = gpu_measure.seconds(replay, device) * STEPS
            found["20 steps captured, images/s"] = batch / graph
            found["captured over eager"] = eager / graph
    except RuntimeError as error:
        found["cannot run"] = str(error).strip().splitlines()[0][:300]
    return found


def print_table(result: dict[str, Any]) -> None:
    print("\nthe card: " + ", ".join(f"{name} {value:.3g}" for name, value in result["limits"].items()))
    heads = ("engine", "batch", "parity", "img/s", "limit", "copies", "PGD-20 img/s")
    lines = [heads]
    for row in result["engines"]:
        if "cannot run" in row:
            continue
        figure, seen = row["parity"], row["copies per batch"]
        decibels = figure["psnr_db"]
        parity = decibels if isinstance(decibels, str) else f"{decibels:.1f} dB"
        moved = f"{seen['to host'] + seen['to device']:g}" if isinstance(seen, dict) else "?"
        lines.append(
            (
                row["engine"],
                str(row["batch"]),
                parity + ("" if figure["holds"] in (True, None) else " BROKEN"),
                f"{row['images/s']:.1f}",
                f"{row['share of the limit']:.1%}",
                moved,
                f"{row['PGD-20, images/s']:.2f}",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    for row in result["engines"]:
        if "cannot run" in row:
            print(f"{row['engine']}: cannot run: {row['cannot run']}")
    for row in [*result["pgd on torch"], *result["searches"]]:
        print(
            ", ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
