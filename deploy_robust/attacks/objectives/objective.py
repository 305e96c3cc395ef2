"""The objective protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from deploy_robust.attacks.attack import Task

Loss = Callable[[Tensor], Tensor]
"""Restored batch (N, 3, H, W) to the loss of each row, (N,); differentiable, to be maximised."""


class Objective(Protocol):
    """What an attack maximises, independent of how it searches."""

    @property
    def name(self) -> str:
        """Name in the attack's name, like ``lmse``."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Everything that the loss depends on besides the task, for the record."""
        ...

    def prepare(self, task: Task) -> Loss:
        """Does once what does not change from step to step, like reference images and their features.

        A row's loss depends on that row alone.

        Raises:
            UsageError: The task lacks what the objective compares with.
        """
        ...
