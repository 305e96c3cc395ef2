"""Momentum (Dong et al., CVPR 2018, MI-FGSM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.ball import Ball
    from deploy_robust.attacks.steps.step import Advance


@dataclass(frozen=True, slots=True)
class MomentumStep:
    """``g <- memory g + gradient / mean|gradient|``, then the steepest step along g.

    Attributes:
        ratio: alpha / radius.
        memory: mu; 1 in the paper.
    """

    ratio: float = 0.25
    memory: float = 1.0

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise UsageError(f"the step must be a positive share of epsilon, like 0.25 (got {self.ratio!r})")
        if not 0 <= self.memory <= 1:
            raise UsageError(f"the memory of momentum lies between 0 and 1 (got {self.memory!r})")

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Name, ratio and memory."""
        return {"step": "momentum", "step_ratio": self.ratio, "memory": self.memory}

    def begin(self, ball: Ball, iterations: int) -> Advance:  # noqa: ARG002 - the rule is the same at every step
        """Starts with no memory."""
        alpha, kept = self.ratio * ball.radius, torch.zeros_like(ball.x)

        def advance(z: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG001 - needs the direction only
            nonlocal kept
            size = gradient.abs().mean((1, 2, 3), keepdim=True)
            kept = self.memory * kept + gradient / torch.where(size > 0, size, torch.ones_like(size))
            return ball.project(z + alpha * ball.direction(kept))

        return advance
