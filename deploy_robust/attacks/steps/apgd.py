"""APGD: steps that halve themselves where the search stalls (Croce and Hein, ICML 2020, algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.ball import Ball
    from deploy_robust.attacks.steps.step import Advance

_MOMENTUM = 0.75
_RHO = 0.75


@dataclass(frozen=True, slots=True)
class APGDStep:
    """Begins with steps of twice the radius; each row has its own step, and goes back to its best where it halves."""

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The name: nothing is to be set."""
        return {"step": "apgd"}

    def begin(self, ball: Ball, iterations: int) -> Advance:
        """Starts a search; the checkpoints depend on its length."""
        return _Search(ball, checkpoints(iterations))


def checkpoints(iterations: int) -> list[int]:
    """Steps after which the step size is looked at: ``ceil(p_j T)``, p of the paper's section 3.1."""
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    found = sorted({math.ceil(share * iterations) for share in p})
    return [k for k in found if k <= iterations]


class _Search:
    """State of one search, row by row."""

    def __init__(self, ball: Ball, marks: list[int]) -> None:
        self._ball, self._marks, self._k = ball, marks, 0
        self._eta = 2 * ball.radius
        self._before = ball.x

    def __call__(self, z: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ball, k = self._ball, self._k
        if k == 0:
            self._best = (z, loss, gradient)
            self._last = self._best_at_mark = loss
            self._rises = torch.zeros_like(loss)
            self._halved = torch.zeros_like(loss, dtype=torch.bool)
            self._before = z
            self._k = 1
            return ball.project(z + self._eta * ball.direction(gradient))
        self._rises = self._rises + (loss > self._last)
        self._last = loss
        best, best_loss, best_gradient = self._best
        better = loss > best_loss
        wide = better.view(-1, 1, 1, 1)
        best, best_gradient = torch.where(wide, z, best), torch.where(wide, gradient, best_gradient)
        best_loss = torch.where(better, loss, best_loss)
        self._best = (best, best_loss, best_gradient)
        if k in self._marks:
            since = k - max(m for m in self._marks if m < k)
            stalled = (self._rises < _RHO * since) | (~self._halved & (self._best_at_mark >= best_loss))
            wide = stalled.view(-1, 1, 1, 1)
            self._eta = torch.where(wide, self._eta / 2, self._eta)
            z, gradient = torch.where(wide, best, z), torch.where(wide, best_gradient, gradient)
            self._halved, self._best_at_mark = stalled, best_loss
            self._rises = torch.zeros_like(loss)
        ahead = ball.project(z + self._eta * ball.direction(gradient))
        step = ball.project(z + _MOMENTUM * (ahead - z) + (1 - _MOMENTUM) * (z - self._before))
        self._before = z
        self._k = k + 1
        return step
