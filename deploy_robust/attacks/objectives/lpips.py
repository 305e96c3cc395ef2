"""LPIPS: move the output away from where it was, as people see it (arXiv 2203.16931, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.objectives.references import Reference, check_reference, reference_of
from deploy_robust.errors import UsageError
from deploy_robust.models.perceptual import FEATURE_NETWORKS, LPIPS, perceptual

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss
    from deploy_robust.models.perceptual import Perceptual


@dataclass(frozen=True, slots=True)
class PerceptualObjective:
    """``D(f(x + delta), y)``, a distance of features; those of y are computed once.

    Attributes:
        name: ``lpips`` or ``features``.
        net: Which network, for the record.
        by: The distance.
        reference: y, as in `LMSE`.
    """

    name: str
    net: str
    by: Perceptual
    reference: Reference = "clean-output"

    def __post_init__(self) -> None:
        check_reference(self.name, self.reference)

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Net and reference."""
        return {"net": self.net, "reference": self.reference}

    def prepare(self, task: Task) -> Loss:
        """Computes the features of y.

        Raises:
            UsageError: The task has no such image, or it is too small.
        """
        y = self.by.features(reference_of(task, self.reference, self.name).detach().to(task.x))

        def loss(restored: Tensor) -> Tensor:
            return self.by.distance(self.by.features(restored), y)

        return loss


def lpips(*, net: str = "alex", trunk: str = "", reference: Reference = "clean-output") -> PerceptualObjective:
    """LPIPS with the trunk from a file; see `deploy_robust.models.perceptual.LPIPS`."""
    return PerceptualObjective("lpips", net, LPIPS(net, trunk), reference)


def features(*, net: str = "scene-segmenter", reference: Reference = "clean-output") -> PerceptualObjective:
    """The same on a feature network, which LPIPS never is; by default the shipped segmentation network's.

    Raises:
        UsageError: No such network is registered.
    """
    if net not in FEATURE_NETWORKS:
        raise UsageError(
            f"objective features needs net = the name of a feature network: known are {', '.join(FEATURE_NETWORKS)}"
        )
    return PerceptualObjective("features", net, perceptual(net), reference)
