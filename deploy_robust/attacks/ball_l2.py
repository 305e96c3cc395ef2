"""The L2 ball, cut with the cube of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import erfinv

from deploy_robust import keyed
from deploy_robust.attacks.ball import Ball

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.keyed import Part


@dataclass(frozen=True, slots=True)
class L2Ball(Ball):
    """Images whose root-mean-square change is at most eps over the values that may move.

    The radius is ``eps sqrt(n)`` with n those values, so that an epsilon means as much in an image of any size, and as
    much as in L-infinity for a perturbation that moves every value by eps.

    Attributes:
        count: n of each row, (N, 1, 1, 1).
    """

    count: Tensor

    @classmethod
    def of(cls, task: Task) -> L2Ball:
        """The ball of a task."""
        x = task.x.detach()
        count = x.new_full((x.shape[0], 1, 1, 1), x[0].numel())
        return cls(x, task.eps.to(x), torch.zeros_like(x), torch.ones_like(x), count)

    def within(self, mask: Tensor) -> L2Ball:
        """The ball of the values inside `mask`."""
        lower, upper = torch.where(mask, self.lower, self.x), torch.where(mask, self.upper, self.x)
        count = mask.expand_as(self.x).sum((1, 2, 3), keepdim=True).to(self.x)
        return L2Ball(self.x, self.eps, lower, upper, count)

    @property
    def radius(self) -> Tensor:
        """In L2, (N, 1, 1, 1)."""
        return self.eps * self.count.sqrt()

    def project(self, z: Tensor) -> Tensor:
        """A point inside: towards the centre, then cut; the cut only shortens, as the centre lies in the cube."""
        z = torch.clamp(z, self.lower, self.upper)
        delta = z.double() - self.x.double()
        radius = self.eps.double() * self.count.double().sqrt()
        length = torch.linalg.vector_norm(delta, dim=(1, 2, 3), keepdim=True)
        delta = delta * torch.where(length > radius, radius / length * (1 - 2.0**-40), torch.ones_like(length))
        moved = (self.x.double() + delta).to(z)
        # Rounding to the type of the image may leave the ball: such values go one number back to the centre.
        beyond = (moved.double() - self.x.double()).abs() > delta.abs()
        inside = torch.where(beyond, torch.nextafter(moved, self.x), moved)
        return torch.where(length > radius, inside, z)

    def direction(self, gradient: Tensor) -> Tensor:
        """The unit gradient of each row; zero where there is none."""
        scale = gradient.abs().amax((1, 2, 3), keepdim=True)
        gradient = gradient / torch.where(scale > 0, scale, torch.ones_like(scale))
        length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
        return gradient / torch.where(length > 0, length, torch.ones_like(length))

    def uniform(self, seed: int, keys: Sequence[tuple[Part, ...]], *purpose: Part) -> Tensor:
        """One uniform draw from the L2 ball for each row, by its own key."""
        rows = []
        for i, key in enumerate(keys):
            flat = keyed.uniform(seed, *key, *purpose, shape=tuple(self.x.shape[1:])).astype(np.float64)
            gauss = torch.from_numpy(erfinv(flat * (1 - 2.0**-24)))
            gauss = gauss * (self.lower[i] < self.upper[i]).cpu()
            share = float(keyed.uniform(seed, *key, *purpose, "length", shape=(1,))[0]) / 2 + 0.5
            length = float(gauss.norm()) or 1.0
            n = max(1.0, float(self.count[i]))
            rows.append(gauss / length * share ** (1 / n) * n**0.5)
        return self.project(self.x + self.eps * torch.stack(rows).to(self.x))
