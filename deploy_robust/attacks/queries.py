"""What all searches by queries share: error maps of the engine's answers, the best image so far, and the count.

A restoration engine answers with an image, so that one query gives an error for every pixel and not one number for all.
Searches differ in what they ask next; this file asks, counts and remembers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from deploy_robust.attacks import ball
from deploy_robust.attacks.attack import Crafted
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from deploy_robust.attacks.attack import Task
    from deploy_robust.keyed import Part

BROKEN = 1.0e6
"""Error of an image whose answer is not finite: worse than any image, whose error is 1 at most."""

TRACE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
"""Numbers of queries at which the best PSNR so far is noted, as facts ``psnr_at_30`` and so on."""

_NEVER = -1.0


class Answers(NamedTuple):
    """What the engine answered to one image of each active row.

    Attributes:
        errors: Squared difference of the answer, cut to [0, 1], to the reference, averaged over channels, (n, H, W);
            1 where the answer is not finite.
        total: Its mean over the image, (n,); `BROKEN` where any value of the answer is not finite.
    """

    errors: Tensor
    total: Tensor


@dataclass(slots=True)
class Queries:
    """The engine under query, for the rows of a task.

    All rows are asked together, and equally often. Rows that are done can be taken out (`active`): every tensor that
    goes in or comes out then holds the active rows only, in their order. Only `retire` waits for the device.

    Attributes:
        task: What is attacked.
        ball: Where in-ball images lie.
        reference: What errors are measured against, (N, 3, H, W): the ground truth, else the clean output.
        stop_error: Mean error from which on a row counts as violated.
        budget: Queries of each row at most.
        best: Best in-ball image of each row so far, (N, 3, H, W).
        best_error: Its mean error, (N,); -1 before the first.
        asked: Queries of each active row so far.
        used: Queries of each row, (N,).
        active: Indices of the rows that are still searched.
        keys: Keys of the active rows.
        trace: Best mean error of each row that was known at so many queries, (N,).
    """

    task: Task
    ball: ball.Ball
    reference: Tensor
    stop_error: float
    budget: int
    best: Tensor
    best_error: Tensor
    used: Tensor
    active: Tensor
    keys: list[tuple[Part, ...]]
    asked: int = 0
    trace: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, budget: int, stop_psnr: float = 0.0) -> Queries:
        """Nothing asked yet.

        Args:
            task: What is attacked.
            budget: Queries of each row at most.
            stop_psnr: A row is done once the PSNR of its answer, in dB against the reference, falls below this. A row
                whose answer is not finite is done in any case.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        if task.restore is None:
            raise UsageError("a search by queries needs an engine to query")
        reference = task.ground_truth if task.ground_truth is not None else task.clean_output
        if reference is None:
            raise UsageError("a search by queries needs ground truth or clean outputs to measure errors against")
        rows = task.x.shape[0]
        flat = task.x.new_zeros(rows)
        return cls(
            task,
            ball.Ball.of(task),
            reference.to(task.x).clamp(0, 1),
            10 ** (-stop_psnr / 10) if stop_psnr > 0 else BROKEN,
            budget,
            task.x.clone(),
            flat + _NEVER,
            flat.clone(),
            torch.arange(rows, device=task.x.device),
            list(task.keys),
        )

    @property
    def left(self) -> int:
        """Queries that each active row still has."""
        return self.budget - self.asked

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

    def signs(self, *purpose: Part) -> Tensor:
        """Independent fair signs for the active rows, by their own keys, (n, 3, H, W)."""
        return ball.signs(self.task.seed, self.keys, *purpose, like=self.task.x)

    def ask(self, *images: Tensor) -> list[Answers]:
        """Answers to several images of each active row, asked in one batch; one query each.

        Images may leave the ball, and only `offer` makes one the result.
        """
        restore = self.task.restore
        if restore is None:
            raise UsageError("a search by queries needs an engine to query")
        y = restore(torch.cat(images)).to(self.task.x.device)
        reference = self.reference[self.active].repeat(len(images), 1, 1, 1)
        finite = torch.isfinite(y)
        errors = torch.where(finite, (y.clamp(0, 1) - reference).square(), 1.0).mean(1)
        total = torch.where(finite.flatten(1).all(1), errors.mean((1, 2)), BROKEN)
        self.asked += len(images)
        self.used[self.active] += len(images)
        rows = len(self.active)
        return [Answers(*each) for each in zip(errors.split(rows), total.split(rows), strict=True)]  # type: ignore[no-untyped-call]

    def offer(self, images: Tensor, answers: Answers) -> None:
        """Remembers in-ball images (n, 3, H, W) of the active rows where they are better than what was found."""
        better = answers.total > self.best_error[self.active]
        self.best[self.active] = torch.where(better.view(-1, 1, 1, 1), images, self.best[self.active])
        self.best_error[self.active] = torch.where(better, answers.total, self.best_error[self.active])
        for mark in TRACE:
            if mark > self.budget:
                break
            # What is found after a mark is not known at it; a mark that no offer has reached yet keeps the best so far.
            if self.asked <= mark:
                self.trace[mark] = self.best_error.clone()

    def retire(self) -> Tensor:
        """Takes out the rows that are violated or have spent their budget, and says which of them stay, (n,) bool."""
        stays = self.best_error[self.active] < self.stop_error
        if self.left <= 0:
            stays = torch.zeros_like(stays)
        self.active = self.active[stays]
        self.keys = [self.task.keys[row] for row in self.active.tolist()]
        return stays

    def crafted(self, at_start: Tensor) -> Crafted:
        """The result, with what was observed of each row.

        Args:
            at_start: Mean error of each row where the search began, (N,).
        """
        error = self.best_error.clamp(min=0)
        facts = {
            "objective": error,
            "objective_at_start": at_start,
            "queries": self.used,
            "violated": (self.best_error >= self.stop_error).to(error),
        }
        facts |= {f"psnr_at_{mark}": psnr_of(best) for mark, best in self.trace.items() if (best >= 0).all()}
        return Crafted(self.best, facts)


def psnr_of(error: Tensor) -> Tensor:
    """PSNR in dB, peak 1, of mean squared errors; at most 100."""
    return -10 * error.clamp(min=1e-10).log10()
