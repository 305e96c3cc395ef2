"""The step protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from deploy_robust.attacks.ball import Ball

Advance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(iterate z, its loss (N,), its gradient) to the next iterate, inside the ball. May keep what it saw before."""


class Step(Protocol):
    """A rule for the next iterate."""

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The rule's name as ``step``, and everything that it depends on, for the record."""
        ...

    def begin(self, ball: Ball, iterations: int) -> Advance:
        """A fresh rule for one search of so many iterations; memory, like momentum, lives in what it returns."""
        ...
