"""The steepest step in the ball's norm; in L-infinity every value moves by alpha towards a larger loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.ball import Ball
    from deploy_robust.attacks.steps.step import Advance


@dataclass(frozen=True, slots=True)
class SignStep:
    """``z <- project(z + alpha sign(gradient))`` (arXiv 2203.16931, eq. 2 and 3); in L2 along the unit gradient.

    Attributes:
        ratio: alpha / radius; a quarter in the paper.
    """

    ratio: float = 0.25

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise UsageError(f"the step must be a positive share of epsilon, like 0.25 (got {self.ratio!r})")

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Name and ratio."""
        return {"step": "sign", "step_ratio": self.ratio}

    def begin(self, ball: Ball, iterations: int) -> Advance:  # noqa: ARG002 - the rule is the same at every step
        """Fixes alpha for each row."""
        alpha = self.ratio * ball.radius

        def advance(z: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG001 - needs the direction only
            return ball.project(z + alpha * ball.direction(gradient))

        return advance
