"""Random signs of several steps of a search, drawn ahead and brought to the device together, one bit each.

A copy from the host for every query would make a fast device wait; one copy serves all queries between two looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust import keyed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deploy_robust.keyed import Part


@dataclass(slots=True)
class SignSteps:
    """Independent fair signs for each step and row, the same bits as `keyed.signs` gives for that row and step.

    Attributes:
        first: Number of the first step.
        packed: Eight signs in a byte, lowest bit first, (steps, n, bytes) uint8, on the device.
        like: What the signs are to look like, (n, 3, H, W): shape of a row, type and device.
    """

    first: int
    packed: Tensor
    like: Tensor

    @classmethod
    def draw(
        cls, seed: int, keys: Sequence[tuple[Part, ...]], *purpose: Part, first: int, count: int, like: Tensor
    ) -> SignSteps:
        """Draws so many steps, each row by its own key; one copy to the device."""
        numbers = math.prod(like.shape[1:])
        rows = [
            [keyed.sign_bits(seed, *key, *purpose, step, count=numbers) for key in keys]
            for step in range(first, first + count)
        ]
        return cls(first, torch.from_numpy(np.array(rows, dtype=np.uint8)).to(like.device), like)

    def at(self, step: int) -> Tensor:
        """The signs of one step, (n, 3, H, W), unpacked on the device."""
        bits = self.packed[step - self.first, :, :, None] >> torch.arange(8, dtype=torch.uint8, device=self.like.device)
        values = (bits & 1).flatten(1)[:, : math.prod(self.like.shape[1:])]
        return values.to(self.like.dtype).mul_(2).sub_(1).view(-1, *self.like.shape[1:])

    def keep(self, rows: Tensor) -> None:
        """Drops the rows that are done; `rows` is (n,) bool."""
        self.packed = self.packed[:, rows]
