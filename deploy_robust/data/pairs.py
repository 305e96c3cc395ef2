"""Pairs of a rainy image and its ground truth, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """An object: label and pixel box, corners ``x0 <= x < x1`` and ``y0 <= y < y1``."""

    label: str
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class Labels:
    """Ground truth for a downstream task.

    Attributes:
        classes: Class index of each pixel, (H, W) uint8; 255 is ignored.
        class_names: Name of each index.
        boxes: Objects in the image.
    """

    classes: NDArray[np.uint8] | None = None
    class_names: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """One rainy image with its ground truth.

    Attributes:
        id: Unique within its source and stable between runs.
        rainy: (H, W, 3) uint8 RGB.
        clean: Ground truth of the same shape; None for real rain without one (``--unpaired``).
        scene: The independent draw that the pair belongs to; frames of one clip share it.
        labels: Ground truth for a downstream task, where the source has it.
    """

    id: str
    rainy: NDArray[np.uint8]
    clean: NDArray[np.uint8] | None
    scene: str
    labels: Labels = field(default_factory=Labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.rainy.shape[:2]
        return height, width


@runtime_checkable
class PairSource(Protocol):
    """A sequence of pairs, drawn or read when asked for.

    Two sources with the same `identity` yield the same bytes: it names everything that they depend on.
    """

    @property
    def name(self) -> str:
        """Short name for tables: ``scenes``, ``photos`` or the folder's name."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """What the pairs depend on: generator version, seed, size, or the hashes of files."""
        ...

    @property
    def paired(self) -> bool:
        """Whether every pair has a ground truth."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def ids(self) -> list[str]:
        """The ids in order, without reading or drawing an image."""
        ...


def iterate(source: PairSource) -> Iterator[Pair]:
    """The pairs in order, one at a time."""
    for index in range(len(source)):
        yield source[index]
