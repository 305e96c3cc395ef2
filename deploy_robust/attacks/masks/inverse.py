"""Everything that another region leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.masks.mask import Mask


@dataclass(frozen=True, slots=True)
class Inverse:
    """The complement.

    Attributes:
        of: The other region.
    """

    of: Mask

    @property
    def name(self) -> str:
        """``not-`` and the other's name."""
        return f"not-{self.of.name}"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Those of the other."""
        return self.of.settings

    def region(self, task: Task) -> Tensor:
        """True where the other is false."""
        return ~self.of.region(task)
