"""The rain region (arXiv 2203.16931, eq. 12 and 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust.attacks.objectives.references import reference_of
from deploy_robust.attacks.threat import LEVELS
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task

RainFrom = Literal["clean-output", "ground-truth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rain:
    """Pixels of which a channel differs from the rainless image by more than a level.

    Attributes:
        rain_from: The rainless image: ``clean-output`` f(x), or ``ground-truth``; both cut to [0, 1] and compared in
            whole grey levels, as the authors' code does.
        rain_level: In grey levels; 10 in the authors' code.
    """

    rain_from: RainFrom = "clean-output"
    rain_level: int = 10

    def __post_init__(self) -> None:
        if self.rain_from not in get_args(RainFrom):
            raise UsageError(f"rain_from must be one of {', '.join(get_args(RainFrom))} (got {self.rain_from!r})")
        if not 0 <= self.rain_level < LEVELS:
            raise UsageError(f"rain_level must be a grey level from 0 to 254, like 10 (got {self.rain_level})")

    @property
    def name(self) -> str:
        """``rain``."""
        return "rain"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Where rain is found and from which level."""
        return {"rain_from": self.rain_from, "rain_level": self.rain_level}

    def region(self, task: Task) -> Tensor:
        """Any channel above the level.

        Raises:
            UsageError: The task has no such image.
        """
        rainless = reference_of(task, self.rain_from, "mask rain").detach().to(task.x)
        apart = (rainless.clamp(0, 1) * LEVELS).round() - (task.x.detach() * LEVELS).round()
        return (apart.abs() > self.rain_level).any(1, keepdim=True)
