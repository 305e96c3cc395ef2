"""The suite: cheap and strong searches first, each going on from the best image that was found before it.

Random corners, stripes, local credit, tiles; and, where another attack's images are at hand, local credit from those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.corners import look, random_corners_first
from deploy_robust.attacks.local_credit import LocalCredit
from deploy_robust.attacks.search import Search
from deploy_robust.attacks.stripes import stripes_first
from deploy_robust.attacks.tiled import tiled_search
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.queries import Queries
    from deploy_robust.attacks.search import Stage

_FIRST = 15
"""Random corners at most, and stripes likewise."""


def suite(*, queries: int = 300, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> Search:
    """All searches in order; for the arguments see `Search`."""
    return Search(name="suite", plan=_plan, queries=queries, stop_psnr=stop_psnr, stop_drop=stop_drop)


def transfer(*, queries: int = 100, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> Search:
    """Local credit from the images in `Task.start`, which any attack on any source may have found.

    In a run they are those of the attacks by gradients before it, for each image the strongest on the engine.

    Its first image is the start moved to the corner of the ball, so that it is never weaker than that.
    """
    return Search(
        name="transfer",
        plan=_transfer_plan,
        queries=queries,
        stop_psnr=stop_psnr,
        stop_drop=stop_drop,
        needs_start=True,
    )


def _plan(task: Task, queries: int) -> list[tuple[int, Stage]]:
    first = min(_FIRST, max(1, queries // 25))
    tiles = queries // 20
    after = queries // 10 if task.start is not None else 0
    climb = queries - 2 * first - tiles - after
    stages: list[tuple[int, Stage]] = [
        (first, random_corners_first),
        (first, stripes_first),
        (climb, LocalCredit(queries=queries).climb),
        (tiles, tiled_search),
    ]
    return stages + ([(1, start_from), (after - 1, LocalCredit(queries=queries).climb)] if after else [])


def _transfer_plan(task: Task, queries: int) -> list[tuple[int, Stage]]:
    if task.start is None:
        raise UsageError("transfer starts from another attack's images, and there are none: give it a source")
    return [(1, start_from), (queries - 1, LocalCredit(queries=queries).climb)]


def start_from(engine: Queries) -> None:
    """Offers the corner nearest to the task's start; one query."""
    start = engine.task.start
    if start is None:
        raise UsageError("there are no images to start from: give a source")
    delta = start.to(engine.x)[engine.active] - engine.x
    look(engine, torch.where(delta >= 0, 1.0, -1.0))
    engine.retire()
