"""Attacks on the difference of two networks that should answer alike: an engine and what it was made from.

A fault that no clean image reaches (a range that saturates, an overflow, a fused kernel) shows where the two answers
move apart. The task's network is then the difference of the two, ``x -> engine(x) - reference(x)``, and its clean
output is the difference on the clean image, so that any search can maximise it. Between sound networks the difference
is rounding, and a search that climbs it climbs noise: it finds nothing, which is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.ascent import GradientAscent
from deploy_robust.attacks.attack import Crafted
from deploy_robust.attacks.local_credit import LocalCredit
from deploy_robust.attacks.steps.sign import SignStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Access, Attack, Task
    from deploy_robust.attacks.objectives.objective import Loss

_KEPT = ("objective", "objective_at_start")
"""Facts that say the same of a difference as of a network; PSNR, violations and flat starts do not."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean square of the task's network, which is a difference of two: an objective, and an error map by pixel."""

    name: str = "difference"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """None."""
        return {}

    def prepare(self, task: Task, reference: Tensor | None = None) -> Loss:
        """Needs neither the task nor a reference: the difference is zero where the two networks agree.

        Returns:
            Of differences (N, 3, H, W), their mean square: of each image (N,) as an objective, without a reference; of
            each pixel (N, H, W) as an error map, with one.
        """
        del task
        dims = (1, 2, 3) if reference is None else (1,)
        return lambda apart: apart.square().mean(dims)


@dataclass(frozen=True, slots=True)
class Divergence:
    """A search for an image on which two networks differ most.

    Attributes:
        name: Name in tables and in the store.
        search: How it searches: by gradients of both networks, or by queries of both.
    """

    name: str
    search: Attack

    @property
    def access(self) -> Access:
        """The search's: gradients of both networks, or forward passes."""
        return self.search.access

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The search's."""
        return self.search.settings

    def craft(self, task: Task) -> Crafted:
        """Searches all rows together; as facts of each row the mean square difference, at the start and at the end.

        Raises:
            UsageError: The task has no network.
        """
        found = self.search.craft(task)
        return Crafted(found.images, {name: found.facts[name] for name in _KEPT if name in found.facts})


def divergence(*, iterations: int = 10, step_ratio: float = 0.25, restarts: int = 1) -> Divergence:
    """By gradients: PGD on the mean square difference, as for a source and the literal reading of an engine's graph.

    Args:
        iterations: Gradients of each image.
        step_ratio: Step as a share of epsilon.
        restarts: Independent random starts; each row keeps its best.
    """
    search = GradientAscent(
        name="divergence",
        objective=Difference(),
        step=SignStep(step_ratio),
        iterations=iterations,
        restarts=restarts,
        keep_best=True,
    )
    return Divergence("divergence", search)


def divergence_queries(*, queries: int = 30) -> Divergence:
    """By queries: local credit on the square difference of every pixel, of an engine and its reference.

    Args:
        queries: Queries of each image, to each of the two networks.
    """
    name = "divergence-queries"
    return Divergence(name, LocalCredit(queries=queries, error_map=Difference(), name=name))
