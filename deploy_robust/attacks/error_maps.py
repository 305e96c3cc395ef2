"""What a search by queries maximises: an error for every pixel where there is one, else one number for the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Objective

PixelLoss = Callable[[Tensor], Tensor]
"""Restored batch (n, 3, H, W) to the error of every pixel, (n, H, W); its mean is maximised."""


class ErrorMap(Protocol):
    """An objective that credits pixels."""

    @property
    def name(self) -> str:
        """Name in the record."""
        ...

    def prepare(self, task: Task, reference: Tensor) -> PixelLoss:
        """The error for the rows of a task.

        Args:
            task: The rows that are asked.
            reference: Ground truth, else the clean output, cut to [0, 1], (n, 3, H, W).
        """
        ...


@dataclass(frozen=True, slots=True)
class SquaredError:
    """Squared difference to the reference, the answer cut to [0, 1], averaged over channels."""

    name: str = "squared-error"

    def prepare(self, task: Task, reference: Tensor) -> PixelLoss:
        """Needs the reference alone."""
        del task
        return lambda restored: (restored.clamp(0, 1) - reference).square().mean(1)


@dataclass(frozen=True, slots=True)
class Scalar:
    """The fallback for an objective that gives one number for an image: each pixel is credited with all of it.

    A search on it works as `spsa` does, and needs more queries the larger the image.
    """

    objective: Objective

    @property
    def name(self) -> str:
        """The objective's."""
        return self.objective.name

    def prepare(self, task: Task, reference: Tensor) -> PixelLoss:
        """Prepares the objective for these rows."""
        loss, (height, width) = self.objective.prepare(task), reference.shape[-2:]
        return lambda restored: loss(restored)[:, None, None].expand(-1, height, width)


SQUARED_ERROR = SquaredError()
"""What searches maximise unless told otherwise."""
