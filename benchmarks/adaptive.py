"""What PGD gains on an int8 engine by attacking its literal reading instead of the fp32 network it was made from.

Both attacks start from the same random corner of the ball, take the same steps and return their own best iterate. Both
are judged on ONNX Runtime with its optimiser off, by PSNR to the ground truth; differences are paired by image.

    python benchmarks/adaptive.py scenes --out benchmarks/results/adaptive-scenes.json
    DEPLOY_ROBUST_DATA=... python benchmarks/adaptive.py rain100h --out benchmarks/results/adaptive-rain100h.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from PIL import Image

from deploy_robust.artefact.exporter import Calibration
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.ball import Ball
from deploy_robust.attacks.steps.sign import SignStep
from deploy_robust.attacks.threat import quantise as camera
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.literal import LiteralEngine
from deploy_robust.engines.onnxruntime import KIND as RUNTIME
from deploy_robust.exporters.ends import end_convolutions
from deploy_robust.exporters.int8_ort import PROFILE
from deploy_robust.exporters.onnx_fp32 import to_onnx
from deploy_robust.exporters.qdq import quantise
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.checkpoints import load_any, load_official
from deploy_robust.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

STEPS = 20
THREATS = ((1.0, True), (0.5, False))
"""Epsilon in grey levels, and whether the camera rounds to 8 bits."""


def climb(restore: Callable[[Tensor], Tensor], x: Tensor, eps: float) -> Tensor:
    """PGD on the MSE to the clean output, from a random corner; each row's best iterate.

    Raises:
        RuntimeError: The first gradient of a row is zero: its attack would stand still and look like robustness.
    """
    rows = len(x)
    ball = Ball.of(Task(x, torch.full((rows, 1, 1, 1), eps), 0, tuple((i,) for i in range(rows))))
    advance = SignStep().begin(ball, STEPS)
    with torch.no_grad():
        clean = restore(x)
    z = ball.corner(0, [(i,) for i in range(rows)], "start")
    best, best_loss = z, torch.full((rows,), -torch.inf)
    for step in range(STEPS + 1):
        z = z.detach().requires_grad_()
        loss = (restore(z) - clean).square().mean((1, 2, 3))
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        if step == 0 and not gradient.flatten(1).any(1).all():
            raise RuntimeError("the first gradient of a row is exactly zero: start elsewhere")
        better = loss.detach() > best_loss
        best = torch.where(better.view(-1, 1, 1, 1), z.detach(), best)
        best_loss = torch.where(better, loss.detach(), best_loss)
        z = advance(z.detach(), loss.detach(), gradient)
    return best


def as_batch(found: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(found).transpose(0, 3, 1, 2).copy()).float() / 255


def rain100h(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Central crops of real pairs."""
    root = Path(os.environ["DEPLOY_ROBUST_DATA"]) / "rain100h"
    rainy, clean = [], []
    for path in sorted((root / "rain").glob("*.png"))[:count]:
        for folder, into in (("rain", rainy), ("norain", clean)):
            pixels = np.asarray(Image.open(root / folder / path.name).convert("RGB"))
            top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
            into.append(pixels[top : top + size, left : left + size])
    return as_batch(rainy), as_batch(clean)


def scenes(count: int, size: int) -> tuple[Tensor, Tensor]:
    pairs = list(SceneSource(count, seed=0, size=(size, size), split="test"))
    return as_batch([pair.rainy for pair in pairs]), as_batch([pair.clean for pair in pairs if pair.clean is not None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", choices=["scenes", "rain100h"])
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()

    torch.set_num_threads(1)
    if args.pairs == "rain100h":
        checkpoint = Path(os.environ["DEPLOY_ROBUST_DATA"]) / "checkpoints" / "prenet6_rain100h.pth"
        net, _ = load_official("prenet", "official", checkpoint)
        x, truth = rain100h(args.count, args.size)
    else:
        net, _ = load_any("prenet-small")
        x, truth = scenes(args.count, args.size)
    net = net.eval().requires_grad_(False)

    def calibration() -> Iterator[NDArray[np.uint8]]:
        for pair in SceneSource(8, seed=0, size=(96, 96), split="calibration"):
            yield pair.rainy

    with tempfile.TemporaryDirectory() as folder:
        path, whole = Path(folder) / "int8.onnx", Path(folder) / "fp32.onnx"
        onnx.save_model(to_onnx(net, net.size_rule), str(whole))
        model = quantise(whole, Calibration(calibration), Path(folder), PROFILE, end_convolutions)
        onnx.save_model(model, str(path))
        engine, _ = RUNTIME.open(path, EngineOptions(threads=1, arithmetic="literal"))
    twin = LiteralEngine(model)

    result = {
        "what": f"PGD-{STEPS}, alpha = eps/4, best iterate, on {args.pairs}, {len(x)} images of {args.size} px; "
        f"{net.identity}, int8 with uint8 activations; PSNR to ground truth in dB on ONNX Runtime, optimiser off",
        "clean": round(psnr(engine.run(x), truth, shave=0).mean().item(), 3),
        "threats": {},
    }
    print(f"clean {result['clean']:.3f} dB")
    for level, rounds in THREATS:
        scores = {}
        for name, source in (("transferred", net), ("adaptive", twin.run)):
            z = climb(source, x, level / 255)
            scores[name] = psnr(engine.run(camera(z) if rounds else z), truth, shave=0)
        gap = mean_interval((scores["transferred"] - scores["adaptive"]).double().tolist())
        worse = torch.minimum(scores["transferred"], scores["adaptive"])
        result["threats"][f"{level:g}/255 {'8-bit' if rounds else 'float'}"] = {
            **{name: [round(v, 3) for v in found.tolist()] for name, found in scores.items()},
            "mean_transferred": round(scores["transferred"].mean().item(), 3),
            "mean_adaptive": round(scores["adaptive"].mean().item(), 3),
            "mean_of_the_worse": round(worse.mean().item(), 3),
            "gain_of_adaptive_95": [round(v, 3) for v in gap],
        }
        print(
            f"eps {level:g}/255 {'8-bit' if rounds else 'float'}: transferred {scores['transferred'].mean():.3f}, "
            f"adaptive {scores['adaptive'].mean():.3f}, gain {gap.mean:+.3f} dB [{gap.low:+.3f}, {gap.high:+.3f}]"
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
