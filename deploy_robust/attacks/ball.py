"""Where an attacked image may lie: within eps of its rainy image, and inside [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deploy_robust import keyed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.attacks.attack import Task
    from deploy_robust.keyed import Part


@dataclass(frozen=True, slots=True)
class Ball:
    """The L-infinity ball of each row, cut with the cube of images.

    Both are boxes, so that one pair of bounds for each value describes their intersection, and the projection is one
    clamp: the two clips of the paper (arXiv 2203.16931, eq. 3 and 4) in one.

    Attributes:
        x: Centres, (N, 3, H, W) in [0, 1].
        eps: Radius of each row, (N, 1, 1, 1).
        lower: Smallest value allowed, shaped as `x`.
        upper: Largest value allowed, shaped as `x`.
    """

    x: Tensor
    eps: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, task: Task) -> Ball:
        """The ball of a task; outside its mask the bounds are the image itself."""
        x, eps = task.x.detach(), task.eps.to(task.x)
        lower, upper = _sum_rounded_up(x, -eps).clamp(min=0), -_sum_rounded_up(-x, -eps).clamp(min=-1)
        if task.mask is not None:
            inside = task.mask.to(x.device) != 0
            lower, upper = torch.where(inside, lower, x), torch.where(inside, upper, x)
        return cls(x, eps, lower, upper)

    @property
    def radius(self) -> Tensor:
        """How far a step of ratio 1 goes along `direction`, (N, 1, 1, 1)."""
        return self.eps

    def project(self, z: Tensor) -> Tensor:
        """The nearest point inside; exact, not up to rounding."""
        return torch.clamp(z, self.lower, self.upper)

    def direction(self, gradient: Tensor) -> Tensor:
        """The point of the unit ball of this norm that lies furthest along the gradient."""
        return gradient.sign()

    def within(self, mask: Tensor) -> Ball:
        """The part of the ball that moves only where `mask`, (N, 1, H, W) bool, is true."""
        lower, upper = torch.where(mask, self.lower, self.x), torch.where(mask, self.upper, self.x)
        return replace(self, lower=lower, upper=upper)

    def uniform(self, seed: int, keys: Sequence[tuple[Part, ...]], *purpose: Part) -> Tensor:
        """One uniform draw for each row, by its own key."""
        rows = [keyed.uniform(seed, *key, *purpose, shape=tuple(self.x.shape[1:])) for key in keys]
        draws = torch.stack([torch.from_numpy(row) for row in rows]).to(self.x)
        return self.project(self.x + self.eps * draws)

    def corner(self, seed: int, keys: Sequence[tuple[Part, ...]], *purpose: Part) -> Tensor:
        """One random corner for each row, by its own key: every value at plus or minus eps."""
        return self.project(self.x + self.eps * signs(seed, keys, *purpose, like=self.x))


def signs(seed: int, keys: Sequence[tuple[Part, ...]], *purpose: Part, like: Tensor) -> Tensor:
    """Independent fair signs for each row, by its own key: (len(keys), *like.shape[1:]), typed and placed as `like`."""
    rows = [keyed.signs(seed, *key, *purpose, shape=tuple(like.shape[1:])) for key in keys]
    return torch.stack([torch.from_numpy(row) for row in rows]).to(like)


def _sum_rounded_up(a: Tensor, b: Tensor) -> Tensor:
    """The smallest representable number that is at least a + b.

    Addition rounds to nearest, which could leave the ball by a last bit. The rounding error itself is representable
    (two-sum, Knuth, TAOCP 2, 4.2.2), so that its sign says when to go one number up.
    """
    total = a + b
    b_seen = total - a
    error = (a - (total - b_seen)) + (b - b_seen)
    return torch.where(error > 0, torch.nextafter(total, torch.full_like(total, torch.inf)), total)
