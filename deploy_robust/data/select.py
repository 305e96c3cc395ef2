"""Parts of a source: the first pairs only, or a crop of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust import keyed
from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.data.derived import Derived
from deploy_robust.data.pairs import Box, Labels
from deploy_robust.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.data.pairs import Pair, PairSource

CropPlace = Literal["centre", "keyed"]


class Limited(Derived):
    """The first pairs of a source, all of them where it has no more.

    Args:
        source: Where the pairs come from.
        count: At most how many, at least 1.

    Raises:
        UsageError: The count is below 1.
    """

    def __init__(self, source: PairSource, count: int) -> None:
        if count < 1:
            raise UsageError(f"limit {count}: at least 1 pair")
        super().__init__(source)
        self._count = min(count, len(source))

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """The source's, and how many of its pairs."""
        return {**self._source.identity, "limit": self._count}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < self._count:
            raise IndexError(f"pair {index} of {self._count}")
        return self._source[index]

    def ids(self) -> list[str]:
        """The source's first ids."""
        return self._source.ids()[: self._count]


class Cropped(Derived):
    """One crop of each pair, of the same size everywhere; ids stay.

    Args:
        source: Where the pairs come from.
        size: (height, width) of the crop, each at least 32 pixels.
        at: ``centre``: rows from ``(H - h) // 2``, columns from ``(W - w) // 2``; ``keyed``: a place drawn for each id.
        seed: Run seed of the keyed places.

    Raises:
        UsageError: The size or the place is not one of these.
        ImageError: On reading, an image that is smaller than the crop.
    """

    def __init__(self, source: PairSource, size: tuple[int, int], *, at: CropPlace = "centre", seed: int = 0) -> None:
        if min(size) < SMALLEST_SIDE:
            raise UsageError(f"crop {size[0]}x{size[1]}: height and width of at least {SMALLEST_SIDE} pixels")
        if at not in get_args(CropPlace):
            raise UsageError(f"crop at {at!r}: one of {', '.join(get_args(CropPlace))}")
        super().__init__(source)
        self._size = size
        self._at = at
        self._seed = seed

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """The source's, and the crop."""
        crop: dict[str, str | int | float | bool | None] = {
            "crop_height": self._size[0],
            "crop_width": self._size[1],
            "crop_at": self._at,
        }
        if self._at == "keyed":
            crop["crop_seed"] = self._seed
        return {**self._source.identity, **crop}

    def __getitem__(self, index: int) -> Pair:
        pair = self._source[index]
        height, width = pair.size
        if height < self._size[0] or width < self._size[1]:
            raise ImageError(
                f"{pair.id} of {self.name}: is {height}x{width} (height x width), smaller than the crop "
                f"{self._size[0]}x{self._size[1]}: ask for a smaller crop"
            )
        spare = height - self._size[0], width - self._size[1]
        if self._at == "centre":
            return crop_pair(pair, spare[0] // 2, spare[1] // 2, self._size)
        rng = keyed.generator(self._seed, "crop", pair.id)
        return crop_pair(pair, int(rng.integers(spare[0] + 1)), int(rng.integers(spare[1] + 1)), self._size)


def crop_pair(pair: Pair, top: int, left: int, size: tuple[int, int]) -> Pair:
    """The part of a pair from (top, left) on: images, classes and the visible part of each box.

    Args:
        pair: A pair that holds the crop.
        top: First row.
        left: First column.
        size: (height, width).

    Returns:
        A pair with the same id; boxes that the crop does not touch are gone.
    """
    window = slice(top, top + size[0]), slice(left, left + size[1])
    classes = pair.labels.classes
    labels = Labels(
        classes=None if classes is None else classes[window].copy(),
        class_names=pair.labels.class_names,
        boxes=tuple(cut for box in pair.labels.boxes if (cut := _cut(box, top, left, size)) is not None),
    )
    clean = None if pair.clean is None else pair.clean[window].copy()
    return replace(pair, rainy=pair.rainy[window].copy(), clean=clean, labels=labels)


def _cut(box: Box, top: int, left: int, size: tuple[int, int]) -> Box | None:
    x0, x1 = max(box.x0 - left, 0), min(box.x1 - left, size[1])
    y0, y1 = max(box.y0 - top, 0), min(box.y1 - top, size[0])
    return Box(box.label, x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
