"""Attacks that look at nothing: the baselines that every other attack has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from deploy_robust.attacks.attack import Access, Crafted
from deploy_robust.attacks.ball import Ball
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomNoise:
    """Random points of the ball, drawn by each row's key.

    One draw needs no network. Of several draws each row keeps the one that moves the network's output most (LMSE), and
    the network must be given.

    Attributes:
        name: ``uniform`` inside the ball, or ``corners``: every value at plus or minus eps.
        draws: Number of draws for each row.
    """

    name: Literal["uniform", "corners"]
    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"{self.name} needs at least one draw (got {self.draws})")

    @property
    def access(self) -> Access:
        """Nothing for one draw, forward passes for several."""
        return Access.NOTHING if self.draws == 1 else Access.QUERIES

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The number of draws."""
        return {"draws": self.draws}

    def craft(self, task: Task) -> Crafted:
        """Draws, and chooses where there is a choice.

        Raises:
            UsageError: Several draws were asked for and the task has no network.
        """
        ball = Ball.of(task)
        if self.draws == 1:
            return Crafted(self._draw(ball, task, 0))
        if task.restore is None:
            raise UsageError(
                f"{self.name} with {self.draws} draws needs a network to choose by: give one, or draw once"
            )
        loss = LMSE().prepare(task)
        with torch.no_grad():
            images = self._draw(ball, task, 0)
            largest = loss(task.restore(images))
            for draw in range(1, self.draws):
                other = self._draw(ball, task, draw)
                found = loss(task.restore(other))
                # A network that answers NaN is broken: nothing is worse than that.
                better = (found > largest) | (found.isnan() & ~largest.isnan())
                images = torch.where(better.view(-1, 1, 1, 1), other, images)
                largest = torch.where(better, found, largest)
        return Crafted(images, {"objective": largest.nan_to_num(nan=torch.inf)})

    def _draw(self, ball: Ball, task: Task, draw: int) -> Tensor:
        point = ball.uniform if self.name == "uniform" else ball.corner
        return point(task.seed, task.keys, self.name, draw)


def uniform_noise(*, draws: int = 1) -> RandomNoise:
    """Noise uniform in the ball."""
    return RandomNoise(name="uniform", draws=draws)


def random_corners(*, draws: int = 1) -> RandomNoise:
    """Noise of full strength: every value of every pixel moves by eps, up or down."""
    return RandomNoise(name="corners", draws=draws)
