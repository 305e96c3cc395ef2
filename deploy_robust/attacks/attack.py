"""The attack protocol: what every search for a perturbation is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from deploy_robust.data.pairs import Labels
    from deploy_robust.keyed import Part


class Access(Enum):
    """What an attack needs of the network; decides against what it is crafted, and how often."""

    NOTHING = "nothing"
    """Neither: crafted once for all engines, like random noise."""
    GRADIENTS = "gradients"
    """A differentiable source: crafted once on the source and transferred to every engine."""
    QUERIES = "queries"
    """Forward passes of the engine itself: crafted anew for every engine."""


@dataclass(frozen=True, slots=True)
class Task:
    """A batch of images to perturb; rows are independent of each other.

    Attributes:
        x: Rainy images, (N, 3, H, W) float32 in [0, 1], on the device of `restore`.
        eps: Radius of each row's L-infinity ball, (N, 1, 1, 1) in [0, 1] units.
        seed: The run's seed.
        keys: What each row's random draws are keyed by, besides the seed: pair, epsilon, ...; N tuples.
        restore: The source or the engine, (N, 3, H, W) to (N, 3, H, W); None for attacks with `Access.NOTHING`.
        clean_output: `restore(x)`, unrounded and unclamped, computed once for all attacks; None with `restore`.
        ground_truth: (N, 3, H, W) float32 in [0, 1]; None where there is none.
        mask: Where values may move, (N, 1, H, W) or (N, 3, H, W), nonzero for yes; None for everywhere. Outside, the
            result is `x` to the last bit.
        start: Images that another attack found, on any network, (N, 3, H, W); searches that take a start look at it.
        labels: What is to be seen in each image, N of them; None where nothing is known.
        draft: The same network in cheaper arithmetic, for attacks by gradients: they search on it, and what they return
            is chosen by `restore`. None searches on `restore` itself.
    """

    x: Tensor
    eps: Tensor
    seed: int
    keys: tuple[tuple[Part, ...], ...]
    restore: Callable[[Tensor], Tensor] | None = None
    clean_output: Tensor | None = None
    ground_truth: Tensor | None = None
    mask: Tensor | None = None
    start: Tensor | None = None
    labels: Sequence[Labels] | None = None
    draft: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Crafted:
    """What an attack found.

    Attributes:
        images: Adversarial images (N, 3, H, W) of the type of `Task.x`, inside each row's ball and inside [0, 1].
        facts: What the attack observed of each row on its own network, (N,) each, worth a place in the record:
            ``objective``, ``objective_at_start``, ``dead_start``, ... Empty for attacks that look at nothing.
    """

    images: Tensor
    facts: Mapping[str, Tensor] = field(default_factory=dict)


class Attack(Protocol):
    """Objective, algorithm and their settings; the epsilon comes with the task."""

    @property
    def name(self) -> str:
        """Name in tables and in the store, like ``pgd-lmse``."""
        ...

    @property
    def access(self) -> Access:
        """What the attack needs of the network."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Everything that the result depends on besides the task, for the record."""
        ...

    def craft(self, task: Task) -> Crafted:
        """Searches a perturbation for every row.

        Raises:
            UsageError: The task lacks something that the attack needs, like a network or a ground truth.
        """
        ...
