"""Training batches for vision networks: crops of labelled scenes, seen as a good derainer would leave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust import keyed
from deploy_robust.data.select import crop_pair
from deploy_robust.errors import InputError, UsageError
from deploy_robust.metrics.segmentation import IGNORED
from deploy_robust.training.crops import to_tensor
from deploy_robust.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.data.pairs import Box, Pair


@dataclass(frozen=True, slots=True)
class VisionBatch:
    """Images of one step with their labels.

    Attributes:
        images: (N, 3, H, W) float32 RGB in [0, 1].
        classes: Right class of each pixel, (N, H, W) int64, `IGNORED` where none counts.
        boxes: Objects of each image.
    """

    images: Tensor
    classes: Tensor
    boxes: tuple[tuple[Box, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeing:
    """How far images differ from clean ones: what is left of rain, noise, light.

    Attributes:
        rain: Greatest share of the rain that is left in an image; half of them keep none.
        noise: Greatest standard deviation of noise, grey levels; half of the images have none.
        light: Greatest relative change of gain and of gamma, and of black level in [0, 1].
    """

    rain: float = 0.35
    noise: float = 4.0
    light: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.rain <= 1 or not 0 <= self.noise <= 255 or not 0 <= self.light < 0.5:
            raise UsageError(f"need rain in [0, 1], noise in [0, 255] and light in [0, 0.5) (got {self})")


class LabelledPool(Pool):
    """Pairs with ground truth and labels.

    Attributes:
        sizes: Pairs of one size together, in the order of first appearance.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__(pairs)
        self.sizes: dict[tuple[int, int], list[Pair]] = {}
        for pair in pairs:
            self.sizes.setdefault(pair.size, []).append(pair)

    @staticmethod
    def _contents(pair: Pair) -> Iterator[bytes]:
        if pair.clean is None or pair.labels.classes is None:
            raise InputError(f"pair {pair.id} has no labels: vision networks learn from labelled scenes")
        yield f"{pair.id}\x1f{pair.rainy.shape}\x1f{pair.labels.boxes}\x1e".encode()
        for array in (pair.rainy, pair.clean, pair.labels.classes):
            yield array.tobytes()


class SceneSampler:
    """Square crops with a random horizontal flip, each seen in its own light; all of a step come from one size.

    Row r of step s depends on (seed, s, r) alone: an interrupted training draws what an uninterrupted one draws.

    Args:
        pool: Where crops come from.
        crop: Side of a crop, pixels; images of smaller sides are taken whole.
        rows: Crops in a batch.
        seed: Seed of the run.
        seeing: How far images differ from clean ones.
    """

    def __init__(self, pool: LabelledPool, *, crop: int, rows: int, seed: int, seeing: Seeing) -> None:
        if rows < 1 or crop < 32:
            raise UsageError(f"a batch needs at least one crop of at least 32 pixels (got {rows} of {crop})")
        self._pool, self._crop, self._rows, self._seed, self._seeing = pool, crop, rows, seed, seeing

    def batch(self, step: int) -> VisionBatch:
        """The batch of one step, on the CPU."""
        sizes = list(self._pool.sizes.values())
        pairs = sizes[keyed.generator(self._seed, "size", step).integers(len(sizes))]
        drawn = [self._draw(pairs, step, row) for row in range(self._rows)]
        images, classes, boxes = zip(*drawn, strict=True)
        return VisionBatch(to_tensor(np.stack(images)), torch.from_numpy(np.stack(classes)), tuple(boxes))

    def _draw(
        self, pairs: list[Pair], step: int, row: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[Box, ...]]:
        rng = keyed.generator(self._seed, "scene crop", step, row)
        pair = pairs[rng.integers(len(pairs))]
        height, width = (min(side, self._crop) for side in pair.size)
        top, left = rng.integers(pair.size[0] - height + 1), rng.integers(pair.size[1] - width + 1)
        pair = crop_pair(pair, int(top), int(left), (height, width))
        flip = bool(rng.integers(2))
        columns = slice(None, None, -1) if flip else slice(None)
        assert pair.clean is not None and pair.labels.classes is not None  # noqa: S101, PT018  # a pool's pairs have both
        image = _seen(pair.clean, pair.rainy, rng, self._seeing)[:, columns]
        classes = pair.labels.classes.astype(np.int64)[:, columns].copy()
        return image, classes, tuple(_mirrored(box, width) if flip else box for box in pair.labels.boxes)


def _seen(
    clean: NDArray[np.uint8], rainy: NDArray[np.uint8], rng: np.random.Generator, seeing: Seeing
) -> NDArray[np.uint8]:
    """A clean image with some rain, noise and another light, rounded to 8 bits as a camera's."""
    share = seeing.rain * rng.random() * rng.integers(2)
    spread = seeing.noise * rng.random() * rng.integers(2)
    gain, gamma, black = rng.uniform(-seeing.light, seeing.light, 3)
    image = clean + np.float32(share) * (rainy.astype(np.float32) - clean)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(spread)
    image = (np.clip(image, 0, 255) / 255) ** np.float32(1 + gamma) * np.float32(1 + gain) + np.float32(black / 2)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def _mirrored(box: Box, width: int) -> Box:
    return type(box)(box.label, width - box.x1, box.y0, width - box.x0, box.y1)


__all__ = ["IGNORED", "LabelledPool", "SceneSampler", "Seeing", "VisionBatch"]
