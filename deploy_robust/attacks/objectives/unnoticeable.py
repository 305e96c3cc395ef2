"""Unnoticeable: spoil what people see while PSNR stays high (arXiv 2203.16931, eq. 14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.objectives.references import Reference, check_reference, reference_of
from deploy_robust.errors import UsageError
from deploy_robust.models.perceptual import perceptual

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss
    from deploy_robust.models.perceptual import Perceptual


@dataclass(frozen=True, slots=True)
class Unnoticeable:
    """``LPIPS(f(x + delta), y) - weight MSE(f(x + delta), y)``, images in [0, 1].

    Attributes:
        net: Which network, for the record; the authors' code takes ``vgg``.
        by: The perceptual distance.
        weight: lambda; 25 in the authors' code.
        reference: y, as in `LMSE`.
    """

    net: str
    by: Perceptual
    weight: float = 25.0
    reference: Reference = "clean-output"

    def __post_init__(self) -> None:
        check_reference(self.name, self.reference)
        if not self.weight >= 0:
            raise UsageError(f"unnoticeable needs a weight of at least 0, like 25 (got {self.weight!r})")

    @property
    def name(self) -> str:
        """``unnoticeable``."""
        return "unnoticeable"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Net, weight and reference."""
        return {"net": self.net, "weight": self.weight, "reference": self.reference}

    def prepare(self, task: Task) -> Loss:
        """Computes the features of y."""
        y = reference_of(task, self.reference, self.name).detach().to(task.x)
        known = self.by.features(y)

        def loss(restored: Tensor) -> Tensor:
            seen = self.by.distance(self.by.features(restored), known)
            return seen - self.weight * (restored - y).square().mean((1, 2, 3))

        return loss


def unnoticeable(
    *, net: str = "alex", trunk: str = "", weight: float = 25.0, reference: Reference = "clean-output"
) -> Unnoticeable:
    """With the perceptual distance by name: an LPIPS net or a registered feature network."""
    return Unnoticeable(net, perceptual(net, trunk), weight, reference)
