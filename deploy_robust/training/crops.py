"""Training batches: random crops from pairs held in memory, each drawn by a key of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust import keyed
from deploy_robust.errors import InputError, UsageError
from deploy_robust.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.data.pairs import Pair
    from deploy_robust.keyed import Part


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one step.

    Attributes:
        rainy: (N, 3, H, W) float32 RGB in [0, 1].
        clean: Its ground truth likewise.
        key: What else is drawn in this step is keyed by.
        first_row: Which row of its step the first image is: draws are keyed by rows of the step, not of a part.
    """

    rainy: Tensor
    clean: Tensor
    key: tuple[Part, ...] = ()
    first_row: int = 0

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` equal parts; the batch itself for one."""
        if count == 1:
            return [self]
        rows = self.rainy.shape[0] // count
        return [
            replace(self, rainy=rainy, clean=clean, first_row=self.first_row + k * rows)
            for k, (rainy, clean) in enumerate(zip(self.rainy.chunk(count), self.clean.chunk(count), strict=True))
        ]


class PairPool(Pool):
    """Pairs with ground truth."""

    @staticmethod
    def _contents(pair: Pair) -> Iterator[bytes]:
        if pair.clean is None:
            raise InputError(f"pair {pair.id} has no ground truth: training needs paired data")
        yield f"{pair.id}\x1f{pair.rainy.shape}\x1e".encode()
        yield pair.rainy.tobytes()
        yield pair.clean.tobytes()

    @staticmethod
    def clean(pair: Pair) -> NDArray[np.uint8]:
        """The ground truth, which every pair of a pool has."""
        assert pair.clean is not None  # noqa: S101  (the constructor refuses such pairs)
        return pair.clean


class CropSampler:
    """Square crops with a random horizontal flip; rain falls downwards, so images are never turned.

    Row r of step s depends on (seed, s, r) alone: an interrupted training draws what an uninterrupted one draws.

    Args:
        pool: Where crops come from; every pair is equally likely.
        size: Side of a crop, pixels.
        rows: Crops in a batch.
        seed: Seed of the run.

    Raises:
        UsageError: The batch is empty, or an image is smaller than the crop.
    """

    def __init__(self, pool: PairPool, *, size: int, rows: int, seed: int) -> None:
        if rows < 1 or size < 1:
            raise UsageError(f"a batch needs at least one crop of at least one pixel (got {rows} of {size})")
        for pair in pool.pairs:
            if min(pair.size) < size:
                height, width = pair.size
                raise UsageError(
                    f"pair {pair.id} is {height}x{width}, smaller than the crop of {size}: use --crop less"
                )
        self.pool, self.size, self.rows, self.seed = pool, size, rows, seed

    def batch(self, step: int) -> Batch:
        """The batch of one step, on the CPU."""
        crops = [self._crop(step, row) for row in range(self.rows)]
        rainy, clean = (to_tensor(np.stack(images)) for images in zip(*crops, strict=True))
        return Batch(rainy, clean)

    def _crop(self, step: int, row: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = keyed.generator(self.seed, "crop", step, row)
        pair = self.pool.pairs[rng.integers(len(self.pool))]
        height, width = pair.size
        top, left = rng.integers(height - self.size + 1), rng.integers(width - self.size + 1)
        columns = slice(None, None, -1) if rng.integers(2) else slice(None)
        window = (slice(top, top + self.size), slice(left, left + self.size))
        return pair.rainy[window][:, columns], self.pool.clean(pair)[window][:, columns]


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255.0
