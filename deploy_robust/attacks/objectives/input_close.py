"""Input-close: bring the output back to the rainy image, so that nothing is derained (arXiv 2203.16931, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.models.perceptual import perceptual

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss
    from deploy_robust.models.perceptual import Perceptual


@dataclass(frozen=True, slots=True)
class InputClose:
    """``-D(f(x + delta), x)`` with D the MSE, or a perceptual distance.

    Attributes:
        net: Which network measures, for the record; empty for the MSE.
        by: The perceptual distance; None for the MSE.
    """

    net: str = ""
    by: Perceptual | None = None

    @property
    def name(self) -> str:
        """``input-close`` or ``input-close-perceptual``."""
        return "input-close" if self.by is None else "input-close-perceptual"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The net, where there is one."""
        return {} if self.by is None else {"net": self.net}

    def prepare(self, task: Task) -> Loss:
        """Fixes the rainy image, or computes its features."""
        x, by = task.x.detach(), self.by
        if by is None:
            return lambda restored: -(restored - x).square().mean((1, 2, 3))
        known = by.features(x)

        def loss(restored: Tensor) -> Tensor:
            return -by.distance(by.features(restored), known)

        return loss


def input_close() -> InputClose:
    """In MSE."""
    return InputClose()


def input_close_perceptual(*, net: str = "alex", trunk: str = "") -> InputClose:
    """By an LPIPS net or a registered feature network."""
    return InputClose(net, perceptual(net, trunk))
