"""One image, one network, one attack: what `twins.py` stores."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.app.export import export
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.registry import make_attack
from deploy_robust.attacks.threat import quantise as camera
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.checkpoints import load_any
from deploy_robust.restorer import Restorer
from deploy_robust.training.crops import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.data.pairs import Pair
    from deploy_robust.models.derainer import Derainer

LEVELS = (1.0, 2.0, 4.0, 8.0)
PRECISIONS = ("fp32", "int8")
TABLE, STRONG = "pgd-20", "pgd-100 x 5"


@dataclass(frozen=True)
class Network:
    """Weights, and the two engines that were exported from them.

    Attributes:
        sha256: Of the weights.
        model: In torch, where PGD takes its gradients.
        engines: On ONNX Runtime by precision, one thread.
    """

    sha256: str
    model: Derainer
    engines: dict[str, Callable[[Tensor], Tensor]]

    @classmethod
    def open(cls, weights: str | Path, folder: Path) -> Network:
        """Loads weights, exports them as `deploy-robust export` does, and opens both engines."""
        model, info = load_any(weights)
        made = export(folder, checkpoint=weights, precisions=PRECISIONS, pairs=PairsRequest(split="calibration"))
        engines = {
            precision: Restorer(*KIND.open(artefact.path, EngineOptions(threads=1)))
            for precision, artefact in zip(PRECISIONS, made, strict=True)
        }
        return cls(info.weights_sha256, model.eval().requires_grad_(False), engines)


def measured(network: Network, pair: Pair, attack: str, levels: Sequence[float], queries: int) -> dict[str, Any]:
    """PSNR of the answers to one attack on one image, in the paper's protocol, with the CPU seconds that it took."""
    assert pair.clean is not None
    began = time.process_time()
    rows = len(levels)
    x, truth = (to_tensor(image[None]).repeat(rows, 1, 1, 1) for image in (pair.rainy, pair.clean))
    images = _crafted(network, pair, attack, levels, queries, x, truth)
    found: dict[str, Any] = {"rain": round(psnr(x[:1], truth[:1]).item(), 4)}
    # The strong attacks only ask whether the weights hold what the table says: one engine and one camera.
    for precision in PRECISIONS if attack == TABLE else PRECISIONS[:1]:
        engine = network.engines[precision]
        found[f"clean {precision}"] = round(psnr(engine(x[:1]), truth[:1]).item(), 4)
        for name, delivered in (("8-bit", camera(images)), ("float", images))[: 2 if attack == TABLE else 1]:
            scores = psnr(engine(delivered), truth).tolist()
            found[f"{precision} {name}"] = {f"{v:g}": round(s, 4) for v, s in zip(levels, scores, strict=True)}
    return {**found, "cpu_seconds": round(time.process_time() - began, 2)}


def _crafted(
    network: Network, pair: Pair, attack: str, levels: Sequence[float], queries: int, x: Tensor, truth: Tensor
) -> Tensor:
    """Perturbed images, one for each level, not yet rounded; searches by queries ask the FP32 engine."""
    rows = len(levels)
    gradients = attack in (TABLE, STRONG)
    restore = network.model if gradients else network.engines["fp32"]
    with torch.no_grad():
        clean = restore(x[:1]).repeat(rows, 1, 1, 1)
    task = Task(
        x.contiguous(memory_format=torch.channels_last) if gradients else x,
        torch.tensor(levels).view(-1, 1, 1, 1) / 255,
        0,
        tuple((pair.id, attack, f"{level:g}") for level in levels),
        restore,
        clean,
        truth,
    )
    if attack == TABLE:
        return pgd_lmse().craft(task).images
    if attack == STRONG:
        return pgd_lmse(iterations=100, restarts=5).craft(task).images
    with torch.no_grad():
        return make_attack(attack, queries=queries).craft(task).images
