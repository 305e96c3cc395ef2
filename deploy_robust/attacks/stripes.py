"""Oriented stripes: corners whose signs follow a random direction and period, the structure derainers react to.

Half of the queries try stripes over the whole image; the others paste stripes into random windows of the best so far,
and a window stays where the error around it has grown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.corners import look
from deploy_robust.attacks.search import Search

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.queries import Queries
    from deploy_robust.attacks.search import Stage

_TURN = 1 << 16
"""Units of phase in one period: whole numbers, so that every device draws the same stripes to the last pixel."""

PERIODS = (2.0, 16.0)
"""Shortest and longest period, pixels."""

_NUMBERS = 10
"""Whole numbers that one pattern and its window are made of."""


def stripes_first(engine: Queries) -> None:
    """Stripes until the stage is spent."""
    whole = engine.asked + (engine.left + 1) // 2
    draw = 0
    while engine.left:
        numbers = engine.whole(_TURN, _NUMBERS, "stripes", draw)
        signs = _pattern(numbers, engine.x)
        if engine.asked >= whole:
            best = engine.corner
            signs = torch.where(_window(numbers, engine.x), signs, best)
        look(engine, signs)
        engine.retire()
        draw += 1


def stripes(*, queries: int = 30, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> Search:
    """Oriented stripes alone; for the arguments see `Search`."""
    return Search(name="stripes", plan=_plan, queries=queries, stop_psnr=stop_psnr, stop_drop=stop_drop)


def _plan(task: Task, queries: int) -> list[tuple[int, Stage]]:
    del task
    return [(queries, stripes_first)]


def _pattern(numbers: Tensor, like: Tensor) -> Tensor:
    """Signs (n, 3, H, W) of stripes: an angle, a period and a phase for each channel."""
    height, width = like.shape[-2:]
    angle = numbers[:, 0].to(torch.float64) * (torch.pi / _TURN)
    low, high = PERIODS
    period = low * (high / low) ** (numbers[:, 1].to(torch.float64) / _TURN)
    across, down = ((_TURN / period * turn).round().to(torch.int64) for turn in (angle.cos(), angle.sin()))
    rows = torch.arange(height, device=like.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=like.device).view(1, 1, 1, -1)
    phase = down.view(-1, 1, 1, 1) * rows + across.view(-1, 1, 1, 1) * columns + numbers[:, 2:5, None, None]
    return torch.where(phase % _TURN < _TURN // 2, 1.0, -1.0).to(like)


def _window(numbers: Tensor, like: Tensor) -> Tensor:
    """A random window of each row, a quarter to a half of each side: (n, 1, H, W) bool."""
    inside = []
    for axis, size in ((2, like.shape[-2]), (3, like.shape[-1])):
        length = size // 4 + numbers[:, 3 + axis] % max(1, size // 4)
        start = numbers[:, 5 + axis] % (size - length + 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        at = torch.arange(size, device=like.device).view(shape)
        inside.append((at >= start.view(-1, 1, 1, 1)) & (at < (start + length).view(-1, 1, 1, 1)))
    return inside[0] & inside[1]
