"""Square attack (Andriushchenko et al., ECCV 2020), the L-infinity version, on the error in place of the margin.

A baseline: squares of one colour at random places, accepted on the error of the whole image.
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

SHARE = 0.8
"""Share of the image that the first squares cover; p in the paper."""

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Steps of 10,000 after which the share is halved, as in the authors' code."""

_LARGE = 1 << 30


def square_search(engine: Queries) -> None:
    """Vertical stripes to start from, then squares until the rows are violated or the stage is spent."""
    total, done = engine.left, 0
    columns = engine.x.shape[-1]
    colours = engine.whole(2, 3 * columns, "square", "start").view(-1, 3, 1, columns)
    look(engine, (2 * colours - 1).expand_as(engine.x).to(engine.x))
    engine.retire()
    while engine.left:
        done += 1
        numbers = engine.whole(_LARGE, 5, "square", done)
        inside = _square(numbers, engine.x, _side(engine.x, done, total))
        colour = torch.where(numbers[:, 2:] % 2 == 1, 1.0, -1.0).to(engine.x)
        signs = engine.corner
        look(engine, torch.where(inside, colour[:, :, None, None], signs))
        engine.retire()


def square(*, queries: int = 300, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> Search:
    """The Square attack; for the arguments see `Search`."""
    return Search(name="square", plan=_plan, queries=queries, stop_psnr=stop_psnr, stop_drop=stop_drop)


def _plan(task: Task, queries: int) -> list[tuple[int, Stage]]:
    del task
    return [(queries, square_search)]


def _side(like: Tensor, done: int, total: int) -> int:
    """Side of the squares, pixels, after so many of the queries."""
    height, width = like.shape[-2:]
    scaled = done * 10_000 // total
    share = SHARE / 2 ** sum(scaled > mark for mark in _HALVINGS)
    return int(min(max(round((share * height * width) ** 0.5), 1), height - 1, width - 1))


def _square(numbers: Tensor, like: Tensor, side: int) -> Tensor:
    """One square of each row, (n, 1, H, W) bool."""
    height, width = like.shape[-2:]
    top, left = (numbers[:, i] % (length - side) for i, length in ((0, height), (1, width)))
    down = torch.arange(height, device=like.device).view(1, 1, -1, 1) - top.view(-1, 1, 1, 1)
    right = torch.arange(width, device=like.device).view(1, 1, 1, -1) - left.view(-1, 1, 1, 1)
    return (down >= 0) & (down < side) & (right >= 0) & (right < side)
