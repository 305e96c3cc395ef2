"""LMSE: move the output away from where it was, in mean squared error (arXiv 2203.16931, eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.objectives.references import Reference, check_reference, reference_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.objectives.objective import Loss


@dataclass(frozen=True, slots=True)
class LMSE:
    """``D(f(x + delta), y) = mean over pixels and channels of (f(x + delta) - y)^2``.

    Attributes:
        reference: y. ``clean-output``: f(x) as it is. At the clean input its gradient is exactly zero, so that the
            search needs a random start. ``clean-output-rounded``: f(x) cut to [0, 1] and rounded to 8 bits, as the
            authors' code does. ``ground-truth``: the image without rain. ``input``: the rainy image.
    """

    reference: Reference = "clean-output"

    def __post_init__(self) -> None:
        check_reference("LMSE", self.reference)

    @property
    def name(self) -> str:
        """``lmse``, with the reference where it is not the default."""
        return "lmse" if self.reference == "clean-output" else f"lmse-{self.reference}"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The reference."""
        return {"reference": self.reference}

    def prepare(self, task: Task) -> Loss:
        """Fixes y.

        Raises:
            UsageError: The task has no clean output or no ground truth and the reference is that.
        """
        reference = reference_of(task, self.reference, "LMSE").to(task.x)

        def loss(restored: Tensor) -> Tensor:
            return (restored - reference).square().mean((1, 2, 3))

        return loss
