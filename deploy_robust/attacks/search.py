"""A search by queries from parts: each stage spends its share of the budget and goes on from the best image so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.attack import Access
from deploy_robust.attacks.bound import Bound
from deploy_robust.attacks.error_maps import SQUARED_ERROR
from deploy_robust.attacks.queries import Queries
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy_robust.attacks.attack import Crafted, Task
    from deploy_robust.attacks.error_maps import ErrorMap

    Stage = Callable[[Queries], None]
    Plan = Callable[[Task, int], list[tuple[int, Stage]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Stages in order; an image is done at its first violation, and the others go on.

    Attributes:
        name: Name in tables and in the store.
        plan: From the task and the number of queries to stages, each with the queries it may spend; their sum is the
            budget. Every stage spends its queries to the last one and offers at least one image.
        queries: Queries of each image, at least 10.
        stop_psnr: An image is done once its PSNR, in dB against the reference, falls below this; 0 never stops.
        stop_drop: It is done once it has lost so many dB against the clean output's PSNR; 0 never stops.
        error_map: What is maximised.
        needs_start: Whether it cannot do without images of another attack, `Task.start`.
    """

    name: str
    plan: Plan
    queries: int = 300
    stop_psnr: float = 0.0
    stop_drop: float = 0.0
    error_map: ErrorMap = SQUARED_ERROR
    needs_start: bool = False

    def __post_init__(self) -> None:
        if self.queries < 10 or min(self.stop_psnr, self.stop_drop) < 0:
            raise UsageError(
                f"{self.name} needs at least 10 queries, and bounds of at least 0 dB "
                f"(got queries {self.queries}, stop_psnr {self.stop_psnr}, stop_drop {self.stop_drop})"
            )

    @property
    def access(self) -> Access:
        """Forward passes of the engine itself."""
        return Access.QUERIES

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Budget and bounds."""
        return {"queries": self.queries, "stop_psnr": self.stop_psnr, "stop_drop": self.stop_drop}

    def craft(self, task: Task) -> Crafted:
        """Searches all rows together; see `Queries.crafted` for the facts.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        engine = Queries.of(task, self.queries, Bound(self.stop_psnr, self.stop_drop), self.error_map)
        at_start = None
        for share, stage in self.plan(task, self.queries):
            engine.limit = engine.asked + share
            if engine.left:
                stage(engine)
            if at_start is None:
                at_start = engine.best_error.clone()
        engine.limit = self.queries
        return engine.crafted(engine.best_error if at_start is None else at_start)
