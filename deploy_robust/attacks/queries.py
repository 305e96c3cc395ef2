"""What all searches by queries share: error maps of the engine's answers, the best image so far, and the count.

A restoration engine answers with an image, so that one query gives an error for every pixel and not one number for all.
Searches differ in what they ask next; this file asks, counts and remembers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deploy_robust.attacks.attack import Crafted
from deploy_robust.attacks.ball import Ball
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.attacks.attack import Task

BROKEN = 1.0e6
"""Error of a pixel whose answer is not finite: a broken answer is worse than any image."""

TRACE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
"""Numbers of queries at which the best PSNR so far is noted, as facts ``psnr_at_30`` and so on."""

_NEVER = -1.0


@dataclass(slots=True)
class Queries:
    """The engine under query, for the rows of a task.

    Rows can be taken out once they are done (`active`): every tensor that goes in or comes out then holds the active
    rows only, in their order.

    Attributes:
        task: What is attacked.
        ball: Where in-ball images lie.
        reference: What errors are measured against, (N, 3, H, W): the ground truth, else the clean output.
        stop_error: Mean error of each row from which on it counts as violated, (N,); infinite where nothing does.
        budget: Queries of each row at most.
        best: Best in-ball image of each row so far, (N, 3, H, W).
        best_error: Its mean error, (N,); -1 before the first.
        used: Queries of each row so far, (N,) int64.
        active: Indices of the rows that are still searched.
        trace: Best mean error of each row after so many queries, as far as it got.
    """

    task: Task
    ball: Ball
    reference: Tensor
    stop_error: Tensor
    budget: int
    best: Tensor
    best_error: Tensor
    used: Tensor
    active: Tensor
    trace: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, budget: int, stop_psnr: float = 0.0) -> Queries:
        """Nothing asked yet.

        Args:
            task: What is attacked.
            budget: Queries of each row at most.
            stop_psnr: A row is done once the PSNR of its answer, in dB against the reference, falls below this.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        if task.restore is None:
            raise UsageError("a search by queries needs an engine to query")
        reference = task.ground_truth if task.ground_truth is not None else task.clean_output
        if reference is None:
            raise UsageError("a search by queries needs ground truth or clean outputs to measure errors against")
        rows = task.x.shape[0]
        stop = 10 ** (-stop_psnr / 10) if stop_psnr > 0 else math.inf
        flat = task.x.new_zeros(rows)
        return cls(
            task,
            Ball.of(task),
            reference.to(task.x).clamp(0, 1),
            flat + stop,
            budget,
            task.x.clone(),
            flat + _NEVER,
            torch.zeros(rows, dtype=torch.int64, device=task.x.device),
            torch.arange(rows, device=task.x.device),
        )

    @property
    def keys(self) -> list[tuple[str | int | float, ...]]:
        """Keys of the active rows."""
        return [self.task.keys[row] for row in self.active.tolist()]

    @property
    def x(self) -> Tensor:
        """Rainy images of the active rows."""
        return self.task.x[self.active]

    @property
    def eps(self) -> Tensor:
        """Radii of the active rows, (n, 1, 1, 1)."""
        return self.ball.eps[self.active]

    def project(self, delta: Tensor) -> Tensor:
        """In-ball images of perturbations of the active rows."""
        return torch.clamp(self.x + delta, self.ball.lower[self.active], self.ball.upper[self.active])

    def errors(self, *images: Tensor) -> list[Tensor]:
        """Error maps (n, H, W) of several images of each active row, asked in one batch; one query each.

        An error is the squared difference of the answer, cut to [0, 1], to the reference, averaged over channels.
        Images may leave the ball, and only `offer` makes one the result.
        """
        restore = self.task.restore
        if restore is None:
            raise UsageError("a search by queries needs an engine to query")
        answers = restore(torch.cat(images))
        reference = self.reference[self.active].repeat(len(images), 1, 1, 1).to(answers.device)
        maps = (answers.clamp(0, 1) - reference).square().mean(1).nan_to_num(nan=BROKEN)
        maps = torch.where(torch.isfinite(answers).all(1), maps, torch.full_like(maps, BROKEN))
        self.used[self.active] += len(images)
        return list(torch.split(maps.to(self.task.x.device), len(self.active)))

    def offer(self, images: Tensor, errors: Tensor) -> Tensor:
        """Remembers in-ball images of the active rows that are better than what was found.

        Args:
            images: (n, 3, H, W).
            errors: Their maps, (n, H, W).

        Returns:
            Which rows took the new image, (n,) bool.
        """
        total = errors.mean((1, 2))
        better = total > self.best_error[self.active]
        rows = self.active[better]
        self.best[rows], self.best_error[rows] = images[better], total[better]
        return better

    def note(self) -> None:
        """Writes the trace: what was best when the queries passed each mark."""
        for mark in TRACE:
            noted = self.trace.setdefault(mark, torch.full_like(self.best_error, torch.nan))
            due = (self.used >= mark) & noted.isnan() & (self.best_error >= 0)
            self.trace[mark] = torch.where(due, self.best_error, noted)

    def retire(self) -> Tensor:
        """Takes out the rows that are violated or have spent their budget, and says which of them stay, (n,) bool."""
        stays = (self.best_error[self.active] < self.stop_error[self.active]) & (self.used[self.active] < self.budget)
        self.active = self.active[stays]
        return stays

    def crafted(self, at_start: Tensor | None = None) -> Crafted:
        """The result, with what was observed of each row."""
        error = self.best_error.clamp(min=0)
        facts = {
            "objective": error,
            "queries": self.used.to(error),
            "violated": (self.best_error >= self.stop_error).to(error),
        }
        if at_start is not None:
            facts["objective_at_start"] = at_start
        # A row that stopped early keeps its answer for the marks that it did not need.
        facts |= {
            f"psnr_at_{mark}": psnr_of(torch.where(noted.isnan(), error, noted))
            for mark, noted in self.trace.items()
            if mark <= self.budget
        }
        return Crafted(self.best, facts)


def psnr_of(error: Tensor) -> Tensor:
    """PSNR in dB, peak 1, of mean squared errors; at most 100."""
    return -10 * error.clamp(min=1e-10).log10()


def keyed_signs(
    keys: Sequence[tuple[str | int | float, ...]], seed: int, shape: Sequence[int], *purpose: str | int
) -> Tensor:
    """Independent fair signs for each row, by its own key, (n, *shape) float32 on the CPU."""
    import numpy as np

    from deploy_robust import keyed

    rows = [keyed.signs(seed, *key, *purpose, shape=tuple(shape)) for key in keys]
    return torch.from_numpy(np.stack(rows)).to(torch.float32)
