"""Local-credit sign ascent: a search by queries whose cost does not grow with the image.

Two probes at plus and minus the same random signs tell, for each pixel, how its error changed. A pixel's answer depends
on its neighbourhood alone, so each probed value is credited with the change around it and not with the sum over the
image. With the sum instead (`spsa`) this is the antithetic estimate of SPSA and NES (Spall 1992; Ilyas et al., ICML
2018), whose noise grows with the number of pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from deploy_robust.attacks.attack import Access
from deploy_robust.attacks.queries import Queries, keyed_signs
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.attacks.attack import Crafted, Task

RADII = (0.7, 1.0, 1.5, 2.5, 4.0)
"""Radii of the neighbourhood, in pixels, among which each image chooses for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCredit:
    """Sign ascent on locally credited changes, inside the ball.

    Attributes:
        queries: Queries of each image, at least 10.
        radius: Sigma of the neighbourhood in pixels; 0 lets each image choose among `RADII`; infinite sums over the
            image.
        sigma: Size of a probe as a share of epsilon. Probes may leave the ball; results may not.
        step: Step as a share of epsilon; falls linearly to a tenth of it over the search.
        memory: Decay of the credits from one step to the next; rises linearly to 0.995 where the search is long.
        warm: Random corners that the start is chosen from.
        every: Steps between two evaluations of the corner that the search has come to.
        stop_psnr: An image is done once its PSNR, in dB against the ground truth, falls below this; 0 never stops.
        name: Name in tables and in the store.
    """

    queries: int = 300
    radius: float = 0.0
    sigma: float = 0.5
    step: float = 0.15
    memory: float = 0.97
    warm: int = 4
    every: int = 8
    stop_psnr: float = 0.0
    name: str = "local-credit"

    def __post_init__(self) -> None:
        if self.queries < 10 or self.warm < 1 or self.every < 1 or self.warm >= self.queries:
            raise UsageError(
                f"{self.name} needs at least 10 queries, a start among them and an interval of at least 1 "
                f"(got queries {self.queries}, warm {self.warm}, every {self.every})"
            )
        if self.radius < 0 or min(self.sigma, self.step) <= 0 or not 0 <= self.memory < 1:
            raise UsageError(
                f"{self.name} needs radius >= 0, sigma and step above 0, and a memory in [0, 1) "
                f"(got {self.radius}, {self.sigma}, {self.step}, {self.memory})"
            )

    @property
    def access(self) -> Access:
        """Forward passes of the engine itself."""
        return Access.QUERIES

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """All numbers of the search."""
        names = ("queries", "radius", "sigma", "step", "memory", "warm", "every", "stop_psnr")
        return {name: getattr(self, name) for name in names}

    def craft(self, task: Task) -> Crafted:
        """Searches all rows together; see `Queries.crafted` for the facts.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        engine = Queries.of(task, self.queries, self.stop_psnr)
        delta = self.start(engine)
        at_start = engine.best_error.clone()
        self.climb(engine, delta)
        return engine.crafted(at_start)

    def start(self, engine: Queries) -> Tensor:
        """The best of a few random corners, halved: where a corner pulls too far, the way back is short."""
        shape = engine.task.x.shape[1:]
        for draw in range(self.warm):
            signs = keyed_signs(engine.keys, engine.task.seed, shape, self.name, "start", draw)
            corner = engine.project(engine.eps * signs.to(engine.x))
            engine.offer(corner, engine.errors(corner)[0])
            engine.note()
        engine.retire()
        return (engine.best - engine.task.x)[engine.active] / 2

    def climb(self, engine: Queries, delta: Tensor) -> None:
        """Goes on from perturbations of the active rows until their budget is spent or they are violated."""
        radii = (self.radius,) if self.radius else RADII
        # One credit for each radius until the choice, then one.
        alone = len(radii) == 1
        credit = delta.new_zeros(delta.shape if alone else (len(radii), *delta.shape))
        chosen = torch.zeros(len(delta), dtype=torch.int64, device=delta.device) if alone else None
        length = max(1, (self.queries - self.warm) * self.every // (2 * self.every + 1))
        steps_to_choose = max(4, min(15, length // 8))
        last = min(0.995, max(self.memory, 1 - 4 / length))
        step = 0
        while len(engine.active):
            share = min(1.0, step / length)
            memory = self.memory + (last - self.memory) * share
            signs = keyed_signs(engine.keys, engine.task.seed, delta.shape[1:], self.name, step).to(delta)
            probe = self.sigma * engine.eps * signs
            above, below = engine.errors(*((engine.x + delta + side * probe).clamp(0, 1) for side in (1, -1)))
            change = (above - below)[:, None]
            around = torch.stack([_around(change, radius) for radius in radii])
            if chosen is None:
                credit = memory * credit + signs * around
                ahead = credit[min(1, len(radii) - 1)]
            else:
                ahead = credit = memory * credit + signs * _pick(around, chosen)
            step += 1
            size = self.step * (1 - 0.9 * share)
            delta = engine.project(delta + size * engine.eps * ahead.sign()) - engine.x
            if chosen is None and step == steps_to_choose:
                chosen = self._choose(engine, delta, credit)
                credit = _pick(credit, chosen)
            elif step % self.every == 0:
                corner = engine.project(engine.eps * _sign(delta))
                engine.offer(corner, engine.errors(corner)[0])
            else:
                continue
            engine.note()
            stays = engine.retire()
            if not bool(stays.all()):
                delta = delta[stays]
                credit = credit[:, stays] if chosen is None else credit[stays]
                chosen = None if chosen is None else chosen[stays]
        engine.note()

    def _choose(self, engine: Queries, delta: Tensor, credit: Tensor) -> Tensor:
        """The radius whose credits carry each row furthest; one query each."""
        steps = [engine.project(engine.eps * _sign(delta + 0.5 * engine.eps * each.sign())) for each in credit]
        maps = engine.errors(*steps)
        for images, errors in zip(steps, maps, strict=True):
            engine.offer(images, errors)
        return torch.stack([errors.mean((1, 2)) for errors in maps]).argmax(0)


def spsa(*, queries: int = 300, stop_psnr: float = 0.0) -> LocalCredit:
    """The same search with one credit for the whole image: the antithetic baseline of SPSA and NES."""
    return LocalCredit(queries=queries, radius=math.inf, stop_psnr=stop_psnr, name="spsa")


def local_credit(
    *,
    queries: int = 300,
    radius: float = 0.0,
    sigma: float = 0.5,
    step: float = 0.15,
    memory: float = 0.97,
    warm: int = 4,
    every: int = 8,
    stop_psnr: float = 0.0,
) -> LocalCredit:
    """Local-credit sign ascent; for the arguments see `LocalCredit`."""
    return LocalCredit(
        queries=queries,
        radius=radius,
        sigma=sigma,
        step=step,
        memory=memory,
        warm=warm,
        every=every,
        stop_psnr=stop_psnr,
    )


def _around(change: Tensor, radius: float) -> Tensor:
    """Changes (n, 1, H, W) seen from each pixel: blurred by a Gaussian, truncated at twice its sigma."""
    if math.isinf(radius):
        return change.mean((2, 3), keepdim=True).expand_as(change)
    reach = max(1, round(2 * radius))
    distance = torch.arange(-reach, reach + 1, dtype=change.dtype, device=change.device)
    kernel = torch.exp(-distance.square() / (2 * radius**2))
    blurred = F.conv2d(change, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(blurred, kernel.view(1, 1, -1, 1), padding=(reach, 0))


def _sign(delta: Tensor) -> Tensor:
    """Plus or minus one, never zero: a corner has no other values."""
    return torch.where(delta >= 0, 1.0, -1.0).to(delta)


def _pick(credit: Tensor, chosen: Tensor) -> Tensor:
    """Of (radii, n, 3, H, W) each row's own."""
    return credit[chosen.to(credit.device), torch.arange(credit.shape[1], device=credit.device)]
