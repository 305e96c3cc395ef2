"""Parallel tile search: flips in all tiles at once, accepted tile by tile.

One query tries random flips everywhere, and the error map says in which tiles they helped; a second query asks for the
merged image, because neighbouring tiles interact and their gains do not add up. Only corners are asked, so that it
suits engines that take 8-bit integers and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.attacks.corners import look
from deploy_robust.attacks.local_credit import blurred
from deploy_robust.attacks.search import Search

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.queries import Answers, Queries
    from deploy_robust.attacks.search import Stage

PITCH = 8
"""Side of a tile, pixels."""

_BLUR = 2.0
"""Radius over which a pixel's change of error is shared, pixels."""


def tiled_search(engine: Queries) -> None:
    """Flips from the best corner of the active rows until they are violated or the stage is spent, exactly."""
    first, budget, step = engine.asked, engine.left, 0
    signs = engine.corner
    answers = look(engine, signs)
    while engine.left:
        spent = (engine.asked - first) / budget
        halvings = 1 if spent < 0.1 else 2 if spent < 0.5 else 3  # shares of 0.5, 0.25 and 0.125 are flipped
        flip = torch.ones_like(signs, dtype=torch.bool)
        for half in range(halvings):
            flip &= engine.signs("tiled", step, half) > 0
        tried = torch.where(flip, -signs, signs)
        found = look(engine, tried)
        if engine.left:
            gain = blurred((found.errors - answers.errors)[:, None], _BLUR)
            merged = torch.where(_per_tile(engine, gain, step) > 0, tried, signs)
            joined = look(engine, merged)
            signs, answers = _better(joined, merged, answers, signs)
        signs, answers = _better(found, tried, answers, signs)
        stays = engine.retire()
        signs, answers = signs[stays], type(answers)(*(each[stays] for each in answers))
        step += 1


def tiled(*, queries: int = 300, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> Search:
    """Tile search from a random corner; for the arguments see `Search`."""
    return Search(name="tiled", plan=_plan, queries=queries, stop_psnr=stop_psnr, stop_drop=stop_drop)


def _plan(task: Task, queries: int) -> list[tuple[int, Stage]]:
    del task
    return [(1, _start), (queries - 1, tiled_search)]


def _start(engine: Queries) -> None:
    look(engine, engine.signs("tiled", "start"))
    engine.retire()


def _per_tile(engine: Queries, change: Tensor, step: int) -> Tensor:
    """Sums of (n, 1, H, W) over tiles with a fresh offset, spread over each tile's pixels again."""
    height, width = change.shape[-2:]
    offsets = engine.whole(PITCH, 2, "tiled", step, "offset")
    spread = []
    for row, (top, left) in zip(change, offsets.tolist(), strict=True):
        padded = F.pad(row[None], (left, -(width + left) % PITCH, top, -(height + top) % PITCH))
        sums = F.avg_pool2d(padded, PITCH)
        spread.append(F.interpolate(sums, scale_factor=PITCH)[..., top : top + height, left : left + width])
    return torch.cat(spread)


def _better(new: Answers, new_signs: Tensor, old: Answers, old_signs: Tensor) -> tuple[Tensor, Answers]:
    """Of two states of each row the one with the larger error."""
    wins = new.total > old.total
    signs = torch.where(wins.view(-1, 1, 1, 1), new_signs, old_signs)
    errors = torch.where(wins.view(-1, 1, 1), new.errors, old.errors)
    return signs, type(old)(
        errors, torch.where(wins, new.total, old.total), torch.where(wins, new.squared, old.squared)
    )
