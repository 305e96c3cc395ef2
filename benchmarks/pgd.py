"""What PGD costs above its floor, beside other libraries made to maximise the same MSE.

The floor of PGD-20 on one image at four epsilons in one batch: one clean forward of the image, 20 passes forward and
back to the input of the batch, one last forward for the best iterate. CPU time of the process, one thread; one round
runs floor and candidates one after another, ratios are taken within the round, and the median over rounds is reported.

    python benchmarks/pgd.py --out benchmarks/results/pgd-cpu.json
    python benchmarks/pgd.py --objective lpips --out benchmarks/results/pgd-lpips-cpu.json

LPIPS needs its trunk: DEPLOY_ROBUST_LPIPS, or DEPLOY_ROBUST_DATA/lpips. ``--weights`` takes a shipped network and
embedded scenes instead of random weights on noise: then the mean PSNR that either search leaves means something.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deploy_robust import keyed
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.objectives.lpips import lpips
from deploy_robust.attacks.pgd import pgd
from deploy_robust.attacks.threat import quantise
from deploy_robust.data.scenes import SceneSource
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.models.checkpoints import load_any
from deploy_robust.models.draft import Draft
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from deploy_robust.attacks.objectives.objective import Objective

LEVELS = (1, 2, 4, 8)
STEPS = 20


def floor(net: nn.Module, x: Tensor, batch: Tensor, objective: Objective) -> Tensor:
    """What no such attack can do without."""
    with torch.no_grad():
        reference = net(x).expand_as(batch)
        loss = objective.prepare(task_of(net, x, reference))
    z = batch
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(net(z)).sum(), z)
    with torch.no_grad():
        loss(net(z))
    return gradient


def task_of(net: Callable[[Tensor], Tensor], x: Tensor, clean: Tensor, draft: nn.Module | None = None) -> Task:
    n = len(LEVELS)
    return Task(
        x=x.expand(n, -1, -1, -1).contiguous(),
        eps=torch.tensor(LEVELS).view(-1, 1, 1, 1) / 255,
        seed=0,
        keys=tuple(("image", level) for level in LEVELS),
        restore=net,
        clean_output=clean,
        draft=draft,
    )


def ours(
    net: Callable[[Tensor], Tensor],
    x: Tensor,
    objective: Objective,
    *,
    keep_best: bool = True,
    draft: nn.Module | None = None,
) -> Tensor:
    with torch.no_grad():
        clean = net(x).expand(len(LEVELS), -1, -1, -1)
    return pgd(objective, iterations=STEPS, keep_best=keep_best).craft(task_of(net, x, clean, draft)).images


def with_torchattacks(net: nn.Module, x: Tensor) -> Tensor:
    """Its loss is written inside its loop and its epsilon is one number: the loss is swapped, epsilons run in turn."""
    from torchattacks.attacks import pgd

    with torch.no_grad():
        reference = net(x)
    before, pgd.nn = pgd.nn, SimpleNamespace(CrossEntropyLoss=torch.nn.MSELoss)
    try:
        return torch.cat([pgd.PGD(net, level / 255, level / 1020, STEPS)(x, reference) for level in LEVELS])
    finally:
        pgd.nn = before


def with_foolbox(net: nn.Module, x: Tensor) -> Tensor:
    """Its loss is a method to override; its epsilon is one number, so that epsilons run in turn."""
    import foolbox

    with torch.no_grad():
        reference = net(x)

    class MaximiseMSE(foolbox.attacks.LinfPGD):
        def get_loss_fn(self, model, labels):  # noqa: ARG002
            return lambda inputs: (model(inputs) - reference).square().mean()

    attack = MaximiseMSE(rel_stepsize=0.25, steps=STEPS)
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    criterion = foolbox.Misclassification(torch.zeros(1, dtype=torch.long))
    return torch.cat([attack.run(model, x, criterion, epsilon=level / 255) for level in LEVELS])


def with_art(net: nn.Module, x: Tensor) -> Tensor:
    """It wants a classifier: the output image is flattened and passes for its class scores."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    flat = torch.nn.Sequential(net, torch.nn.Flatten())
    with torch.no_grad():
        reference = flat(x).numpy()
    estimator = PyTorchClassifier(
        flat, torch.nn.MSELoss(), tuple(x.shape[1:]), reference.shape[1], clip_values=(0, 1), device_type="cpu"
    )
    found = []
    for level in LEVELS:
        attack = ProjectedGradientDescentPyTorch(
            estimator, eps=level / 255, eps_step=level / 1020, max_iter=STEPS, num_random_init=1, verbose=False
        )
        found.append(torch.from_numpy(attack.generate(x.numpy(), reference)))
    return torch.cat(found)


PEERS = {
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
    "adversarial-robustness-toolbox": with_art,
}


def pictures(args: argparse.Namespace, turn: int) -> tuple[Tensor, Tensor | None]:
    """The image of a round, and its ground truth where there is one."""
    if args.weights is None:
        noise = keyed.uniform(0, "benchmark", shape=(1, 3, args.size, args.size))
        return torch.from_numpy(noise).mul(0.5).add(0.5), None
    pair = SceneSource(turn + 1, size=(args.size, args.size))[turn]
    assert pair.clean is not None
    rainy, clean = (torch.from_numpy(each.copy()).permute(2, 0, 1)[None] / 255 for each in (pair.rainy, pair.clean))
    return rainy, clean


def psnr_left(net: nn.Module, images: Tensor, truth: Tensor) -> float:
    """Mean PSNR in dB of the 8-bit output under the attack delivered as 8 bits."""
    with torch.no_grad():
        output = quantise(net(quantise(images.float())).clamp(0, 1))
    return float((-10 * (output - truth).square().mean((1, 2, 3)).log10()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="PReNet preset")
    parser.add_argument("--weights", help="shipped weights instead, on embedded scenes; like prenet-small")
    parser.add_argument("--objective", choices=["lmse", "lpips"], default="lmse")
    parser.add_argument("--size", type=int, default=64, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = MODELS.create("prenet", args.preset) if args.weights is None else load_any(args.weights)[0]
    net = made.eval().requires_grad_(False)
    draft = Draft(net, torch.device("cpu"))
    trunk = "" if "DEPLOY_ROBUST_LPIPS" in os.environ else str(Path(os.environ.get("DEPLOY_ROBUST_DATA", "")) / "lpips")
    objective: Objective = LMSE() if args.objective == "lmse" else lpips(trunk=trunk)

    candidates: dict[str, Callable[[Tensor], Tensor]] = {
        "floor": lambda x: floor(net, x, x.expand(len(LEVELS), -1, -1, -1).contiguous(), objective),
        "deploy-robust": lambda x: ours(net, x, objective),
        "deploy-robust, last iterate": lambda x: ours(net, x, objective, keep_best=False),
        "deploy-robust, in a check": lambda x: ours(TorchEngine(net).run, x, objective),
        "deploy-robust, bf16": lambda x: ours(net, x, objective, draft=draft),
    }
    versions = {"torch": torch.__version__}
    for name, attack in PEERS.items() if args.objective == "lmse" else ():
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            print(f"{name}: not installed, left out")
            continue
        candidates[name] = lambda x, attack=attack: attack(net, x)

    ratios: dict[str, list[float]] = {name: [] for name in candidates}
    reached: dict[str, list[float]] = {name: [] for name in candidates}
    left: dict[str, list[float]] = {name: [] for name in candidates}
    load = os.getloadavg()[0]
    for turn in range(args.rounds + 1):  # the first round warms up
        x, truth = pictures(args, turn)
        with torch.no_grad():
            loss = objective.prepare(task_of(net, x, net(x).expand(len(LEVELS), -1, -1, -1)))
        seconds = {}
        for name, attack in candidates.items():
            start = time.process_time()
            images = attack(x)
            seconds[name] = time.process_time() - start
            if name != "floor" and turn:
                with torch.no_grad():
                    reached[name].append(loss(net(images.float())).mean().item())
                if truth is not None:
                    left[name].append(psnr_left(net, images, truth))
        if turn:
            for name in candidates:
                ratios[name].append(seconds[name] / seconds["floor"])

    what = f"PReNet {args.preset}, random weights" if args.weights is None else f"{args.weights}, embedded scenes"
    result = {
        "what": f"PGD-{STEPS}, {args.objective.upper()}, epsilons {LEVELS} of 255, one image of {args.size} px in each "
        f"round, {what}, CPU time, one thread, ratios to the floor of the same round",
        "rounds": args.rounds,
        "goal": {"lmse": 1.02, "lpips": 1.05}[args.objective],
        "goal of bf16": 0.70,
        "load average when it began": round(load, 1),
        "cpu": {"bf16 instructions": "avx512_bf16" in Path("/proc/cpuinfo").read_text()},
        "python": platform.python_version(),
        "versions": versions,
        "candidates": {
            name: {
                "ratio_median": round(statistics.median(values), 4),
                "ratios": [round(value, 4) for value in values],
                "mean_loss_reached": statistics.mean(reached[name]),
                **({"mean_psnr_left_db": round(statistics.mean(left[name]), 3)} if left[name] else {}),
            }
            for name, values in ratios.items()
            if name != "floor"
        },
    }
    for name, figures in result["candidates"].items():
        decibels = f"   {figures['mean_psnr_left_db']:.2f} dB left" if "mean_psnr_left_db" in figures else ""
        print(f"{name:32} {figures['ratio_median']:.3f}x the floor   loss {figures['mean_loss_reached']:.3e}{decibels}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
