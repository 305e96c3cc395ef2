"""What all searches by queries share: error maps of the engine's answers, the best image so far, and the count.

A restoration engine answers with an image, so that one query gives an error for every pixel and not one number for all.
Searches differ in what they ask next; this file asks, counts and remembers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deploy_robust import keyed
from deploy_robust.attacks import ball
from deploy_robust.attacks.attack import Crafted, Task
from deploy_robust.attacks.bound import BROKEN, Bound, psnr_of
from deploy_robust.attacks.error_maps import SQUARED_ERROR
from deploy_robust.attacks.sign_steps import SignSteps
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from deploy_robust.attacks.error_maps import ErrorMap
    from deploy_robust.keyed import Part

TRACE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
"""Numbers of queries at which the best PSNR so far is noted, as facts ``psnr_at_30`` and so on."""

_NEVER = -1.0


class Answers(NamedTuple):
    """What the engine answered to one image of each active row.

    Attributes:
        errors: Error of each pixel, (n, H, W); with the squared error, 1 where the answer is not finite.
        total: What is maximised: its mean over the image, (n,); `BROKEN` where any value of the answer is not finite.
        squared: Mean squared error to the reference, (n,), by which violations are judged; `BROKEN` likewise.
    """

    errors: Tensor
    total: Tensor
    squared: Tensor


@dataclass(slots=True)
class Queries:
    """The engine under query, for the rows of a task.

    All rows are asked together, and equally often. Rows that are done can be taken out (`active`): every tensor that
    goes in or comes out then holds the active rows only, in their order. Of what a search does for every query nothing
    waits for the device, and nothing is copied to or from it: `retire` waits; draw signs for several steps at once.

    Attributes:
        task: What is attacked.
        ball: Where in-ball images lie.
        reference: What errors are measured against, (N, 3, H, W): the ground truth, else the clean output.
        stop_error: Mean squared error from which on a row counts as violated, (N,).
        limit: Queries of each row until the present stage of the search ends.
        error_map: What is maximised.
        best: Best in-ball image of each row so far, (N, 3, H, W).
        best_error: Its objective, (N,); -1 before the first.
        best_squared: Its mean squared error, (N,); -1 before the first.
        asked: Queries of each active row so far.
        used: Queries of each row, (N,).
        active: Indices of the rows that are still searched.
        keys: Keys of the active rows.
        trace: Largest objective of each row that was known at so many queries, (N,).
    """

    task: Task
    ball: ball.Ball
    reference: Tensor
    stop_error: Tensor
    limit: int
    error_map: ErrorMap
    best: Tensor
    best_error: Tensor
    best_squared: Tensor
    used: Tensor
    active: Tensor
    keys: list[tuple[Part, ...]]
    asked: int = 0
    trace: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, budget: int, bound: Bound | None = None, error_map: ErrorMap = SQUARED_ERROR) -> Queries:
        """Nothing asked yet.

        Args:
            task: What is attacked.
            budget: Queries of each row at most.
            bound: A row is done once its answer violates this. A row whose answer is not finite is done in any case.
            error_map: What is maximised.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        if task.restore is None:
            raise UsageError("a search by queries needs an engine to query")
        reference = task.ground_truth if task.ground_truth is not None else task.clean_output
        if reference is None:
            raise UsageError("a search by queries needs ground truth or clean outputs to measure errors against")
        reference = reference.to(task.x).clamp(0, 1)
        rows = task.x.shape[0]
        flat = task.x.new_zeros(rows)
        return cls(
            task,
            ball.Ball.of(task),
            reference,
            (bound or Bound()).error(task, reference),
            budget,
            error_map,
            task.x.clone(),
            flat + _NEVER,
            flat + _NEVER,
            flat.clone(),
            torch.arange(rows, device=task.x.device),
            list(task.keys),
        )

    @property
    def left(self) -> int:
        """Queries that each active row still has in this stage; 0 where no row is active."""
        return self.limit - self.asked if self.active.shape[0] else 0

    @property
    def x(self) -> Tensor:
        """Rainy images of the active rows."""
        return self._of(self.task.x)

    @property
    def eps(self) -> Tensor:
        """Radii of the active rows, (n, 1, 1, 1)."""
        return self._of(self.ball.eps)

    @property
    def way(self) -> Tensor:
        """Perturbations of the best images of the active rows, (n, 3, H, W)."""
        return self._of(self.best) - self.x

    @property
    def corner(self) -> Tensor:
        """Signs of the corner nearest to the best images of the active rows, (n, 3, H, W)."""
        return corner_of(self.way)

    def project(self, delta: Tensor) -> Tensor:
        """In-ball images of perturbations of the active rows."""
        return torch.clamp(self.x + delta, self._of(self.ball.lower), self._of(self.ball.upper))

    def probe(self, delta: Tensor) -> Tensor:
        """Images of perturbations of the active rows that may leave the ball, but neither the cube nor the mask."""
        images = (self.x + delta).clamp(0, 1)
        if self.task.mask is None:
            return images
        return torch.where(self.task.mask.to(images.device)[self.active] != 0, images, self.x)

    def inside(self, values: Tensor) -> Tensor:
        """Values of the active rows, and zero where the mask lets nothing move."""
        return values if self.task.mask is None else values * (self.task.mask.to(values.device)[self.active] != 0)

    def signs(self, *purpose: Part) -> Tensor:
        """Independent fair signs for the active rows, by their own keys, (n, 3, H, W)."""
        return ball.signs(self.task.seed, self.keys, *purpose, like=self.task.x)

    def sign_steps(self, first: int, count: int, *purpose: Part) -> SignSteps:
        """The same for so many steps, in one copy to the device; `signs` with the step as last part of the purpose."""
        return SignSteps.draw(self.task.seed, self.keys, *purpose, first=first, count=count, like=self.task.x)

    def whole(self, most: int, count: int, *purpose: Part) -> Tensor:
        """Whole numbers from 0 to below `most` for the active rows, by their own keys, (n, count) int64."""
        words = [keyed.philox(self.task.seed, *key, *purpose).random_raw(count) % most for key in self.keys]
        return torch.from_numpy(np.stack(words).astype(np.int64)).to(self.task.x.device)

    def ask(self, *images: Tensor) -> list[Answers]:
        """Answers to several images of each active row, asked in one batch; one query each.

        Images may leave the ball, and only `offer` makes one the result.
        """
        restore = self.task.restore
        if restore is None:
            raise UsageError("a search by queries needs an engine to query")
        answers = restore(torch.cat(images)).to(self.task.x.device)
        self.asked += len(images)
        self.used[self.active] += len(images)
        return self._judged(answers.reshape(len(images), -1, *answers.shape[1:]))

    def _judged(self, y: Tensor) -> list[Answers]:
        """Of answers (images, n, 3, H, W), all in one go: few operations on much, because each has a price."""
        reference = self._of(self.reference)
        broken = ~torch.isfinite(y)  # a filled mask takes its number along; torch.where would bring it as a tensor
        wrong = broken.flatten(2).any(2)
        squared = (y.clamp(0, 1) - reference).square().masked_fill_(broken, 1.0).mean(2)
        mean = squared.mean((2, 3))
        errors, total = squared, mean
        if self.error_map is not SQUARED_ERROR:  # the usual error is the squared one: nothing is computed twice
            loss = self.error_map.prepare(self._active_task(), reference)
            errors = torch.stack([loss(each) for each in y.masked_fill(broken, 0.5)])
            total = errors.mean((2, 3))
        total, mean = total.masked_fill(wrong, BROKEN), mean.masked_fill(wrong, BROKEN)
        return [Answers(*each) for each in zip(errors, total, mean, strict=True)]

    def _of(self, rows: Tensor) -> Tensor:
        """The active ones of (N, ...); no copy where all are."""
        # Not len(): of a tensor it costs microseconds, and this is asked ten times a query.
        return rows if self.active.shape[0] == rows.shape[0] else rows[self.active]

    def _active_task(self) -> Task:
        """The task of the active rows alone, for objectives."""
        task, rows = self.task, self.active
        if len(rows) == task.x.shape[0]:
            return task
        return replace(
            task,
            x=task.x[rows],
            eps=task.eps[rows],
            keys=tuple(self.keys),
            clean_output=None if task.clean_output is None else task.clean_output[rows],
            ground_truth=None if task.ground_truth is None else task.ground_truth[rows],
            mask=None if task.mask is None else task.mask[rows],
            start=None if task.start is None else task.start[rows],
            labels=None if task.labels is None else [task.labels[row] for row in rows.tolist()],
        )

    def offer(self, images: Tensor, answers: Answers) -> None:
        """Remembers in-ball images (n, 3, H, W) of the active rows where they are better than what was found.

        The first violation stays, whatever comes after it.
        """
        bound, before, known = self._of(self.stop_error), self._of(self.best_squared), self._of(self.best_error)
        first = answers.squared >= bound
        better = (before < bound) & (first | (answers.total > known))
        self.best[self.active] = torch.where(better.view(-1, 1, 1, 1), images, self._of(self.best))
        self.best_error[self.active] = torch.where(better, answers.total, known)
        self.best_squared[self.active] = torch.where(better, answers.squared, before)
        best = self.best_squared.clone()
        # What is found after a mark is not known at it; a mark that no offer has reached yet keeps the best so far.
        self.trace.update((mark, best) for mark in TRACE if self.asked <= mark)

    def retire(self) -> Tensor:
        """Takes out the rows that are violated, and says which of them stay, (n,) bool."""
        stays = self._of(self.best_squared) < self._of(self.stop_error)
        self.active = self.active[stays]
        self.keys = [self.task.keys[row] for row in self.active.tolist()]
        return stays

    def crafted(self, at_start: Tensor) -> Crafted:
        """The result, with what was observed of each row.

        Args:
            at_start: Objective of each row where the search began, (N,).
        """
        error = self.best_error.clamp(min=0)
        facts = {
            "objective": error,
            "objective_at_start": at_start,
            "queries": self.used,
            "violated": (self.best_squared >= self.stop_error).to(error),
        }
        facts |= {
            f"psnr_at_{mark}": psnr_of(best)
            for mark, best in self.trace.items()
            if mark <= self.limit and (best >= 0).all()
        }
        return Crafted(self.best, facts)


def corner_of(direction: Tensor) -> Tensor:
    """Signs of the corner in a direction, shaped and typed as it; zero counts as plus."""
    return (direction >= 0).to(direction.dtype).mul_(2).sub_(1)
