"""The mask protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task


class Mask(Protocol):
    """A region of the image; outside it a perturbation is zero, exactly."""

    @property
    def name(self) -> str:
        """Name, like ``rain``."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Everything that the region depends on besides the task, for the record."""
        ...

    def region(self, task: Task) -> Tensor:
        """(N, 1, H, W) bool on the device of `Task.x`: true where pixels may move.

        Raises:
            UsageError: The task lacks what the region is found by, or does not fit it.
        """
        ...
