"""Searches by queries on a device: their speed against the bare engine, what they copy, and what they find."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from deploy_robust.attacks.attack import Task

    Network = Callable[[Tensor], Tensor]

QUERIES = 100
FEW, MORE = 110, 210
"""Budgets without a look, and without a mark of the trace, between them: what they differ by, queries alone cost."""


def search_of(engine: Network, network: nn.Module, x: Tensor, *, queries: int = QUERIES) -> dict[str, Any]:
    """Local credit at 2/255 on one engine.

    Args:
        engine: What is asked, on the device of `x`.
        network: The same network in torch, for what a CPU finds.
        x: Images (N, 3, H, W) in [0, 1].
        queries: Of each image.

    Returns:
        ``queries/s`` of all images together, ``of the bare engine`` (a loop that asks as many images at once),
        ``copies per query`` and ``waits per query`` (None where nothing can count them), ``PSNR``, ``PSNR on a CPU``.
    """
    import gpu_measure

    device, task = x.device, task_of(engine, x)
    attack = searching(queries)
    with torch.no_grad():
        pair = torch.cat([x, x])
        bare = gpu_measure.seconds(lambda: engine(pair), device) / len(pair)
        ours = gpu_measure.seconds(lambda: attack.craft(task), device, rounds=3, least=1) / (len(x) * queries)
        found = psnr(attack.craft(task).images, engine, task)
        reference = network_on_cpu(network)
        on_cpu = replace(task_of(reference, x.cpu()), ground_truth=task.ground_truth.cpu())  # type: ignore[union-attr]
        known = psnr(attack.craft(on_cpu).images, reference, on_cpu)
    copies, waits = costs(engine, x)
    return {
        "queries/s": 1 / ours,
        "of the bare engine": bare / ours,
        "copies per query": copies,
        "waits per query": waits,
        "PSNR": found,
        "PSNR on a CPU": known,
    }


def searching(queries: int, *, every: int = 8) -> Any:
    """Local credit with the default settings."""
    from deploy_robust.attacks.local_credit import LocalCredit

    return LocalCredit(queries=queries, every=every)


def task_of(engine: Network, x: Tensor) -> Task:
    """Images to attack at 2/255; the ground truth is the image, a little darker."""
    from deploy_robust.attacks.attack import Task

    eps = torch.full((len(x), 1, 1, 1), 2 / 255, device=x.device)
    keys = tuple((f"image-{row}",) for row in range(len(x)))
    with torch.no_grad():
        return Task(x, eps, 0, keys, engine, engine(x), 0.95 * x)


def costs(engine: Network, x: Tensor) -> tuple[float | None, float | None]:
    """Copies between host and device, and waits for the device, that one more query of each image costs."""
    import gpu_measure

    if x.device.type != "cuda":
        return None, None
    task, copied, waited = task_of(engine, x), [], []
    with torch.no_grad():
        for queries in (FEW, MORE):
            attack = searching(queries, every=MORE)
            seen = gpu_measure.copies(lambda attack=attack: attack.craft(task), x.device, count=1)
            copied.append(None if seen is None else seen["to host"] + seen["to device"])
            waited.append(len(list(waits(lambda attack=attack: attack.craft(task)))))
    more = MORE - FEW
    few, many = copied
    return None if few is None or many is None else (many - few) / more, (waited[1] - waited[0]) / more


def waits(step: Callable[[], object]) -> Iterator[str]:
    """One line for every operation of torch that waited for the device."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    yield from (str(each.message) for each in seen if "synchroniz" in str(each.message).lower())


def network_on_cpu(network: nn.Module) -> nn.Module:
    """A copy."""
    import copy

    return copy.deepcopy(network).cpu()


def psnr(images: Tensor, engine: Network, task: Task) -> float:
    """Mean PSNR of the answers against the task's ground truth, dB."""
    assert task.ground_truth is not None
    error = (engine(images).clamp(0, 1) - task.ground_truth).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())
