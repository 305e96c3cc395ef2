"""What PGD costs above its floor, beside other libraries made to maximise the same MSE.

The floor of PGD-20 on one image at four epsilons in one batch: one clean forward of the image, 20 passes forward and
back to the input of the batch, one last forward for the best iterate. CPU time of the process, one thread; one round
runs floor and candidates one after another, ratios are taken within the round, and the median over rounds is reported.

    python benchmarks/pgd.py --out benchmarks/results/pgd-cpu.json
"""

from __future__ import annotations

import argparse
import json
import logging
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
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

LEVELS = (1, 2, 4, 8)
STEPS = 20


def floor(net: nn.Module, x: Tensor, batch: Tensor) -> Tensor:
    """What no such attack can do without."""
    with torch.no_grad():
        reference = net(x)
    z = batch
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((net(z) - reference).square().mean((1, 2, 3)).sum(), z)
    with torch.no_grad():
        net(z)
    return gradient


def ours(net: nn.Module, x: Tensor, *, keep_best: bool) -> Tensor:
    with torch.no_grad():
        clean = net(x)
    n = len(LEVELS)
    task = Task(
        x=x.expand(n, -1, -1, -1).contiguous(),
        eps=torch.tensor(LEVELS).view(-1, 1, 1, 1) / 255,
        seed=0,
        keys=tuple(("image", level) for level in LEVELS),
        restore=net,
        clean_output=clean.expand(n, -1, -1, -1),
    )
    return pgd_lmse(iterations=STEPS, keep_best=keep_best).craft(task).images


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="PReNet preset")
    parser.add_argument("--size", type=int, default=64, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = MODELS.create("prenet", args.preset).eval().requires_grad_(False)
    x = torch.from_numpy(keyed.uniform(0, "benchmark", shape=(1, 3, args.size, args.size))).mul(0.5).add(0.5)
    batch = x.expand(len(LEVELS), -1, -1, -1).contiguous()

    candidates: dict[str, Callable[[], Tensor]] = {
        "floor": lambda: floor(net, x, batch),
        "deploy-robust": lambda: ours(net, x, keep_best=True),
        "deploy-robust, last iterate": lambda: ours(net, x, keep_best=False),
    }
    versions = {"torch": torch.__version__}
    for name, attack in PEERS.items():
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            print(f"{name}: not installed, left out")
            continue
        candidates[name] = lambda attack=attack: attack(net, x)

    ratios: dict[str, list[float]] = {name: [] for name in candidates}
    reached: dict[str, float] = {}
    with torch.no_grad():
        clean = net(x)
    for turn in range(args.rounds + 1):  # the first round warms up
        seconds = {}
        for name, attack in candidates.items():
            start = time.process_time()
            images = attack()
            seconds[name] = time.process_time() - start
            if name != "floor":
                with torch.no_grad():
                    reached[name] = (net(images.float()) - clean).square().mean().item()
        if turn:
            for name in candidates:
                ratios[name].append(seconds[name] / seconds["floor"])

    result = {
        "what": f"PGD-{STEPS}, LMSE, epsilons {LEVELS} of 255, one image of {args.size} px, PReNet {args.preset}, "
        "random weights, CPU time, one thread, ratios to the floor of the same round",
        "rounds": args.rounds,
        "goal": 1.02,
        "python": platform.python_version(),
        "versions": versions,
        "candidates": {
            name: {
                "ratio_median": round(statistics.median(values), 4),
                "ratios": [round(value, 4) for value in values],
                "mean_lmse_reached": reached[name],
            }
            for name, values in ratios.items()
            if name != "floor"
        },
    }
    for name, figures in result["candidates"].items():
        print(f"{name:32} {figures['ratio_median']:.3f}x the floor   LMSE reached {figures['mean_lmse_reached']:.3e}")
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
