"""The row probe: whether an engine's answer to an image depends on the rest of the batch, or on its place there.

An engine that answers another way in company than alone is not the engine that was measured. Neighbours are unlike the
image, in mean and in variance, so that a norm over the batch shows; batches are of two to seven rows, so that a switch
on their number shows. Where the engine's graph can be differentiated, the neighbours are optimised as well: they are
moved anywhere in [0, 1] to move the answer to the image, which itself stays untouched (the *neighbour attack*).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from deploy_robust.gate.parity import compare
from deploy_robust.gate.records import BATCH_APART, BATCH_DB, ROWS_APART

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from deploy_robust.restorer import Restorer

    Network = Callable[[Tensor], Tensor]

ALONE: Mapping[str, float] = {ROWS_APART: 0.0, BATCH_APART: 0.0, BATCH_DB: math.inf}
"""Of an engine that takes one image at a time."""

PROBED_PAIRS = 4
"""Pairs of a run that are probed, its first ones."""

LARGEST = 7
"""Rows of the largest batch."""

_NEAR = 8 / 255
"""Epsilon of the neighbour that is an attacked image."""

_STEPS = 8
"""Gradients of the neighbour attack, each a step of 1 / `_STEPS`."""


def row_answers(restore: Network, x: Tensor, batch: int | None = None, twin: Restorer | None = None) -> Tensor:
    """The answers to an image beside all kinds of neighbours, in all kinds of rows.

    Args:
        restore: Maps (N, 3, H, W) float32 in [0, 1] to the same shape.
        x: The image, (1, 3, H, W).
        batch: The only number of rows that it takes, above 1; None where it takes any.
        twin: The same network with gradients, for the neighbour attack; None leaves that out.

    Returns:
        (K, 3, H, W): the answer to the image from each batch.

    Raises:
        EngineDefect: The network failed on a batch.
    """
    batches = list(_batches(x, batch))
    if twin is not None:
        batches.append((attacked_neighbours(twin, x, batch or 4), 0))
    return torch.cat([restore(rows)[row : row + 1].detach().cpu() for rows, row in batches])


def _batches(x: Tensor, fixed: int | None) -> Iterator[tuple[Tensor, int]]:
    """Batches with the row in which the image stands."""
    draw = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, x.shape, generator=draw).to(x) * 2 - 1
    attacked = ((x + _NEAR * signs).clamp(0, 1) * 255).round() / 255
    dark, bright = torch.zeros_like(x), torch.ones_like(x)
    unlike = [1 - x, attacked, x / 4, dark, bright, x.flip(-1)]

    def among(neighbours: list[Tensor], size: int, row: int) -> tuple[Tensor, int]:
        others = [neighbours[i % len(neighbours)] for i in range(size - 1)]
        return torch.cat([*others[:row], x, *others[row:]]), row

    if fixed is not None:
        rows = range(min(fixed, LARGEST))
        yield from (among(unlike, fixed, row) for row in rows)
        yield from (among(neighbours, fixed, fixed - 1) for neighbours in ([dark], [bright], [attacked]))
        return
    yield from (among([1 - x], 2, row) for row in range(2))
    yield from (among([dark, bright], 3, row) for row in range(3))
    yield among([bright, dark], 3, 0)
    yield from (among(unlike, 4, row) for row in range(4))
    yield among([x], 4, 3)
    yield among(unlike[::-1], LARGEST, LARGEST - 1)


def attacked_neighbours(twin: Restorer, x: Tensor, rows: int) -> Tensor:
    """Moves the other rows of a batch so that the answer to its first row moves; sign steps, best iterate.

    Args:
        twin: A differentiable network.
        x: The image, (1, 3, H, W); it stays as it is.
        rows: Rows of the batch.

    Returns:
        (rows, 3, H, W) of 8-bit values; the image is its first row. Where the gradient is zero, as it is where rows are
        independent, the neighbours are what they were.
    """
    with torch.no_grad():
        alone = twin(x)
    others = (1 - x).expand(rows - 1, -1, -1, -1).clone()
    best, most = others, -1.0
    for _ in range(_STEPS):
        z = others.detach().requires_grad_()
        with torch.enable_grad():
            loss = (twin(torch.cat([x, z]))[:1] - alone.detach()).square().mean()
            gradient = torch.autograd.grad(loss, z, allow_unused=True)[0] if loss.requires_grad else None
        if (moved := float(loss.detach())) > most:
            best, most = others, moved
        if gradient is None or not bool(gradient.any()):
            break
        others = (others + gradient.nan_to_num().sign() / _STEPS).clamp(0, 1)
    return torch.cat([x, (best.detach() * 255).round() / 255])


def differences(answers: Tensor, alone: Tensor) -> dict[str, float]:
    """How far the answers of the rows are from each other, and from the one (1, 3, H, W) that came alone."""
    spread = float((answers.amax(0) - answers.amin(0)).max())
    apart = [next(compare(alone.detach().cpu(), answer[None])) for answer in answers]
    lowest = min((each.psnr_db for each in apart), default=math.inf)
    return {ROWS_APART: spread, BATCH_APART: max(each.max_abs for each in apart), BATCH_DB: lowest}
