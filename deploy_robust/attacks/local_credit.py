"""Local-credit sign ascent: a search by queries whose cost does not grow with the image.

Two probes at plus and minus the same random signs tell, for each pixel, how its error changed. A pixel's answer depends
on its neighbourhood alone, so each probed value is credited with the change around it and not with the sum over the
image. What the channels of an image have earned is then weighed by how far it stands out of the noise, which their own
credits tell (Wiener 1949): it costs no query. With the sum instead (`spsa`) this is the antithetic estimate of SPSA and
NES (Spall 1992; Ilyas et al., ICML 2018), whose noise grows with the number of pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from deploy_robust.attacks.attack import Access
from deploy_robust.attacks.bound import Bound
from deploy_robust.attacks.corners import look
from deploy_robust.attacks.error_maps import SQUARED_ERROR
from deploy_robust.attacks.queries import Queries, corner_of
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.attacks.attack import Crafted, Task
    from deploy_robust.attacks.error_maps import ErrorMap

RADII = (0.7, 1.0, 1.5, 2.5, 4.0)
"""Radii of the neighbourhood, in pixels, among which each image chooses for itself."""

_FLOOR = 0.1
"""Weight of a mixture of channels that does not stand out of the noise at all: what it holds may still be true."""

_MEANWHILE = 1.0
"""The radius that leads on until then."""


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
        filtered: Whether channels are weighed by how far they stand out of the noise.
        stop_psnr: An image is done once its PSNR, in dB against the ground truth, falls below this; 0 never stops.
        stop_drop: It is done once it has lost so many dB against the clean output's PSNR; 0 never stops.
        error_map: What is maximised; one with a single number for the image needs many more queries.
        name: Name in tables and in the store.
    """

    queries: int = 300
    radius: float = 0.7
    sigma: float = 0.5
    step: float = 0.15
    memory: float = 0.97
    warm: int = 4
    every: int = 8
    filtered: bool = True
    stop_psnr: float = 0.0
    stop_drop: float = 0.0
    error_map: ErrorMap = SQUARED_ERROR
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
        names = ("queries", "radius", "sigma", "step", "memory", "warm", "every", "filtered", "stop_psnr", "stop_drop")
        return {name: getattr(self, name) for name in names}

    def craft(self, task: Task) -> Crafted:
        """Searches all rows together; see `Queries.crafted` for the facts.

        Raises:
            UsageError: The task has no engine, or nothing to measure errors against.
        """
        engine = Queries.of(task, self.queries, Bound(self.stop_psnr, self.stop_drop), self.error_map)
        for draw in range(self.warm):
            self._look(engine, engine.signs(self.name, "start", draw))
        at_start = engine.best_error.clone()
        engine.retire()
        self.climb(engine)
        return engine.crafted(at_start)

    def climb(self, engine: Queries) -> None:
        """Goes on from the best images of the active rows until they are violated or the stage is spent, exactly.

        Best corners are halved first: where a corner pulls too far, the way back is short.
        """
        delta = engine.way / 2
        length = max(1, engine.left * self.every // (2 * self.every + 1))
        last = min(0.995, max(self.memory, 1 - 4 / length))
        credit = _Credit.of(delta, self.radius)
        step = 0
        drawn = engine.sign_steps(step, self.every, self.name)
        while engine.left:
            if engine.left <= 2:  # no look would follow another pair of probes
                for direction in (delta, credit.ahead)[: engine.left]:
                    self._look(engine, direction)
                engine.retire()
                return
            share = min(1.0, step / length)
            signs = drawn.at(step)
            probe = self.sigma * engine.eps * signs
            above, below = engine.ask(*(engine.probe(delta + side * probe) for side in (1, -1)))
            credit.add(engine.inside(signs), above.errors - below.errors, self.memory + (last - self.memory) * share)
            step += 1
            size = self.step * (1 - 0.9 * share)
            delta = engine.project(delta + size * engine.eps * credit.ahead.sign()) - engine.x
            if credit.open and step >= max(4, min(15, length // 8)) and engine.left >= len(credit.radii):
                credit.choose(torch.stack([self._look(engine, delta + engine.eps * way / 2) for way in credit.ways]))
            elif step % self.every == 0:
                self._look(engine, delta)
            else:
                continue
            stays = engine.retire()
            delta = delta[stays]
            credit.keep(stays)
            drawn.keep(stays)
            if step % self.every == 0 and engine.left:
                drawn = engine.sign_steps(step, self.every, self.name)
                if self.filtered:
                    credit.weigh()

    def _look(self, engine: Queries, direction: Tensor) -> Tensor:
        """Offers the corner in the direction of each active row, and returns its error, (n,); one query."""
        return look(engine, corner_of(direction)).total


@dataclass(slots=True)
class _Credit:
    """What each value has earned so far: for each radius until one is chosen for each row, then for that one.

    Attributes:
        radii: Sigma of the neighbourhoods, pixels.
        earned: (radii, n, 3, H, W) while the choice is open, (n, 3, H, W) afterwards.
        noise: Mean square that `earned` would have by chance, (radii, n) or (n,): that of credits without a trend.
        weights: What leads on is these times the channels of `earned`, (radii, n, 3, 3) or (n, 3, 3).
        chosen: Index of each row's radius, (n,); None while the choice is open.
    """

    radii: tuple[float, ...]
    earned: Tensor
    noise: Tensor
    weights: Tensor
    chosen: Tensor | None

    @classmethod
    def of(cls, delta: Tensor, radius: float) -> _Credit:
        """Nothing earned; the choice is open where the radius is 0."""
        rows = (len(delta),) if radius else (len(RADII), len(delta))
        chosen = torch.zeros(rows, dtype=torch.int64, device=delta.device) if radius else None
        weights = torch.eye(delta.shape[1], dtype=delta.dtype, device=delta.device).repeat(*rows, 1, 1)
        earned = delta.new_zeros((*rows, *delta.shape[1:]))
        return cls((radius,) if radius else RADII, earned, delta.new_zeros(rows), weights, chosen)

    @property
    def open(self) -> bool:
        """Whether rows have still to choose."""
        return self.chosen is None

    @property
    def ways(self) -> list[Tensor]:
        """Where each radius leads, signs (n, 3, H, W)."""
        return [each.sign() for each in self._weighed()]

    @property
    def ahead(self) -> Tensor:
        """What leads on, (n, 3, H, W)."""
        return self._weighed()[RADII.index(_MEANWHILE)] if self.chosen is None else self._weighed()

    def add(self, signs: Tensor, change: Tensor, memory: float) -> None:
        """Credits a change (n, H, W) to the signs that made it; what was earned before fades."""
        blurs = [blurred(change[:, None], radius) for radius in self.radii]
        if self.chosen is None:
            credit = signs * torch.stack(blurs)
        else:
            credit = signs * (blurs[0] if len(blurs) == 1 else _pick(torch.stack(blurs), self.chosen))
        self.earned = memory * self.earned + credit
        self.noise = memory**2 * self.noise + credit.square().mean((-3, -2, -1))

    def weigh(self) -> None:
        """Finds the weights: of each principal mixture of channels, the share of its square that is no noise.

        The noise of the channels is independent and of one size, since their signs are; so the Wiener filter shares
        its axes with the covariance of what was earned.
        """
        flat = self.earned.flatten(-2)
        covariance = flat @ flat.transpose(-1, -2) / flat.shape[-1]
        power, axes = torch.linalg.eigh(covariance)
        share = (1 - self.noise[..., None] / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(min=_FLOOR)
        self.weights = (axes * share[..., None, :]) @ axes.transpose(-1, -2)

    def choose(self, errors: Tensor) -> None:
        """Each row takes the radius whose way has the largest error, of (radii, n)."""
        chosen = errors.argmax(0)
        self.earned, self.noise, self.weights = (
            _pick(each, chosen) for each in (self.earned, self.noise, self.weights)
        )
        self.chosen = chosen

    def keep(self, rows: Tensor) -> None:
        """Drops the rows that are done; `rows` is (n,) bool."""
        where = (slice(None), rows) if self.chosen is None else (rows,)
        self.earned, self.noise, self.weights = self.earned[where], self.noise[where], self.weights[where]
        self.chosen = None if self.chosen is None else self.chosen[rows]

    def _weighed(self) -> Tensor:
        return (self.weights @ self.earned.flatten(-2)).view_as(self.earned)


def spsa(*, queries: int = 300, stop_psnr: float = 0.0, stop_drop: float = 0.0) -> LocalCredit:
    """The same search with one credit for the whole image: the antithetic baseline of SPSA and NES."""
    return LocalCredit(queries=queries, radius=math.inf, stop_psnr=stop_psnr, stop_drop=stop_drop, name="spsa")


def local_credit(
    *,
    queries: int = 300,
    radius: float = 0.7,
    sigma: float = 0.5,
    step: float = 0.15,
    memory: float = 0.97,
    warm: int = 4,
    every: int = 8,
    filtered: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
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
        filtered=filtered,
        stop_psnr=stop_psnr,
        stop_drop=stop_drop,
    )


def blurred(change: Tensor, radius: float) -> Tensor:
    """Changes (n, 1, H, W) seen from each pixel: blurred by a Gaussian, truncated at twice its sigma."""
    if math.isinf(radius):
        return change.mean((2, 3), keepdim=True).expand_as(change)
    kernel = _gaussian(radius, change.dtype, change.device)
    reach = len(kernel) // 2
    rows = F.conv2d(change, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(reach, 0))


@functools.lru_cache(maxsize=32)
def _gaussian(radius: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    reach = max(1, round(2 * radius))
    distance = torch.arange(-reach, reach + 1, dtype=dtype, device=device)
    return torch.exp(-distance.square() / (2 * radius**2))


def _pick(credit: Tensor, chosen: Tensor) -> Tensor:
    """Of (radii, n, 3, H, W) each row's own."""
    return credit[chosen.to(credit.device), torch.arange(credit.shape[1], device=credit.device)]
