"""The loop that all gradient attacks share; what they maximise and how they step is given to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from deploy_robust.attacks.attack import Access, Crafted
from deploy_robust.attacks.ball import Ball
from deploy_robust.attacks.ball_l2 import L2Ball
from deploy_robust.attacks.bound import Bound
from deploy_robust.attacks.slope import Slope
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.masks.mask import Mask
    from deploy_robust.attacks.objectives.objective import Objective
    from deploy_robust.attacks.steps.step import Step

Norm = Literal["linf", "l2"]
Start = Literal["uniform", "corners", "zero"]
MaskWhen = Literal["each-step", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientAscent:
    """Climbs an objective inside the ball of each row.

    A row whose loss or gradient is NaN disturbs no other row: its gradient counts as zero there, and a NaN loss as
    infinite, since a network that answers NaN is broken.

    Where the task has a draft of the network, gradients are the draft's, and the network itself chooses for each row
    between the draft's best iterate and the last.

    Attributes:
        name: Name in tables and in the store.
        objective: What is maximised.
        step: How to get from one iterate to the next.
        iterations: Number of gradients, T.
        start: Where a search begins: a ``uniform`` draw from the ball, one of its ``corners``, drawn, or its centre, at
            ``zero``, where every objective that is least there is flat.
        restarts: Independent searches; each row keeps the one that ends with the largest loss.
        keep_best: Return the iterate with the largest loss instead of the last; costs one more forward pass.
        norm: Of the ball: ``linf`` or ``l2``.
        mask: Where the image may move; None is everywhere.
        mask_when: The region holds in ``each-step``, or cuts what a search of the whole image found: ``after``.
        stop_psnr: A row is done, and costs nothing more, once its PSNR in dB against the ground truth (the clean output
            where there is none) falls below this; that image is returned. 0 never stops.
        stop_drop: It is done once it has lost so many dB against the clean output's PSNR; 0 never stops.
    """

    name: str
    objective: Objective
    step: Step
    iterations: int
    restarts: int
    keep_best: bool
    start: Start = "uniform"
    norm: Norm = "linf"
    mask: Mask | None = None
    mask_when: MaskWhen = "each-step"
    stop_psnr: float = 0.0
    stop_drop: float = 0.0

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.restarts < 1:
            raise UsageError(
                f"a gradient attack needs at least one iteration and one start "
                f"(got iterations {self.iterations}, restarts {self.restarts})"
            )
        if self.start not in get_args(Start):
            raise UsageError(f"start must be one of {', '.join(get_args(Start))} (got {self.start!r})")
        if self.norm not in get_args(Norm):
            raise UsageError(f"norm must be one of {', '.join(get_args(Norm))} (got {self.norm!r})")
        if self.mask_when not in get_args(MaskWhen):
            raise UsageError(f"mask_when must be one of {', '.join(get_args(MaskWhen))} (got {self.mask_when!r})")
        if not (self.stop_psnr >= 0 and self.stop_drop >= 0):
            raise UsageError(f"stop_psnr and stop_drop are in dB (got {self.stop_psnr:g} and {self.stop_drop:g})")
        if self.mask_when == "after" and self.mask is not None and self._stops:
            raise UsageError(
                "a mask that cuts afterwards may undo the violation that stopped the search: use each-step"
            )

    @property
    def access(self) -> Access:
        """A differentiable source."""
        return Access.GRADIENTS

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Objective, step and loop, flat."""
        return {
            "objective": self.objective.name,
            **self.objective.settings,
            **self.step.settings,
            "iterations": self.iterations,
            "random_start": self.start != "zero",
            "restarts": self.restarts,
            "keep_best": self.keep_best,
            **({"start": self.start} if self.start == "corners" else {}),  # as runs from before it was a choice say it
            **({} if self.norm == "linf" else {"norm": self.norm}),
            **self._mask_settings,
            **{key: value for key in ("stop_psnr", "stop_drop") if (value := getattr(self, key)) > 0},
        }

    @property
    def _stops(self) -> bool:
        return max(self.stop_psnr, self.stop_drop) > 0

    @property
    def _mask_settings(self) -> Mapping[str, str | int | float | bool]:
        if self.mask is None:
            return {}
        return {"mask": self.mask.name, **self.mask.settings, "mask_when": self.mask_when}

    def craft(self, task: Task) -> Crafted:
        """Searches all rows together, each in its own ball.

        Only the gradient of the input is computed, whether or not the network's parameters are frozen.

        Returns:
            The images, and as facts of each row: ``objective_at_start``; ``dead_start``, whether the first gradient
            was exactly zero, so that the search went on from a random corner of the ball; and ``objective`` of the
            image returned, where the loop computed it (best iterate or several restarts).

        Raises:
            UsageError: The task has no network, or one without gradients, or lacks the objective's reference.
        """
        if task.restore is None:
            raise UsageError(f"{self.name} needs a differentiable source: give one, or use noise attacks only")
        ball: Ball = Ball.of(task) if self.norm == "linf" else L2Ball.of(task)
        region = None if self.mask is None else self.mask.region(task)
        if region is not None and self.mask_when == "each-step":
            ball = ball.within(region)
        bound = Bound(self.stop_psnr, self.stop_drop) if self._stops else None
        slope = Slope.of(task, self.objective.prepare(task), bound)
        found = self._climb(slope, task, ball, restart=0)
        for restart in range(1, self.restarts):
            if bound is not None and bool(found.facts["violated"].all()):
                break
            other = self._climb(slope, task, ball, restart)
            better = other.facts["objective"] > found.facts["objective"]
            if bound is not None:
                better = (better | (other.facts["violated"] > 0)) & (found.facts["violated"] == 0)
            found = _choose(better, other, found)
        if region is None:
            return found
        facts = {**found.facts, "mask_share": region.to(task.x).mean((1, 2, 3))}
        if self.mask_when == "each-step":
            return Crafted(found.images, facts)
        images = torch.where(region, found.images, task.x)
        return Crafted(images, {**facts, "objective": slope.score(images)})

    def _climb(self, slope: Slope, task: Task, ball: Ball, restart: int) -> Crafted:
        """One search."""
        z = self._begin(task, ball, restart)
        advance = self.step.begin(ball, self.iterations)
        slope.begin()

        loss, gradient = slope.at(z)
        dead = ~gradient.flatten(1).any(1)
        facts = {"objective_at_start": loss, "dead_start": dead}
        best, best_loss = z, loss
        # Quantisers swallow small starts, and LMSE is flat at the clean input: without this the attack would stand
        # still and report the clean score as robustness. The random corner is as far from the centre as one can get.
        corner = ball.corner(task.seed, task.keys, "dead start", restart)
        z = slope.hold(z, torch.where(_as_rows(dead), corner, advance(z, loss, gradient)))

        for _ in range(1, self.iterations):
            if slope.all_done:
                break
            loss, gradient = slope.at(z)
            if self.keep_best:
                best, best_loss = _keep_larger(best, best_loss, z, loss)
            z = slope.hold(z, advance(z, loss, gradient))

        if not self.keep_best and self.restarts == 1 and not self._stops:
            return Crafted(z, facts)
        # The last iterate has not been looked at yet; and a draft's opinion of the best one is not the network's.
        loss = slope.score(z, last=True)
        if self.keep_best:
            best_loss = slope.score(best) if slope.drafted else best_loss
            best, best_loss = _keep_larger(best, best_loss, z, loss)
        else:
            best, best_loss = z, loss
        if not self._stops:
            return Crafted(best, {**facts, "objective": best_loss})
        best, best_loss = torch.where(_as_rows(slope.done), z, best), torch.where(slope.done, loss, best_loss)
        facts |= {"objective": best_loss, "violated": slope.done.to(loss), "gradients": slope.spent}
        return Crafted(best, facts)

    def _begin(self, task: Task, ball: Ball, restart: int) -> Tensor:
        if self.start == "zero":
            return ball.x
        draw = ball.uniform if self.start == "uniform" else ball.corner
        return draw(task.seed, task.keys, "start", restart)


def _keep_larger(best: Tensor, best_loss: Tensor, z: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    better = loss > best_loss
    return torch.where(_as_rows(better), z, best), torch.where(better, loss, best_loss)


def _choose(first: Tensor, a: Crafted, b: Crafted) -> Crafted:
    """Rows of `a` where `first`, rows of `b` elsewhere."""
    facts = {name: torch.where(first, a.facts[name], b.facts[name]) for name in a.facts}
    return Crafted(torch.where(_as_rows(first), a.images, b.images), facts)


def _as_rows(flags: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return flags.view(-1, 1, 1, 1)
