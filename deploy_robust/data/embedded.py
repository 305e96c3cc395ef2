"""What embedded pair sources share: a count, a seed, a size, a split, and rain over clean images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.data.rain import RAIN_VERSION, RainSettings
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.data.pairs import Pair


MOST_PAIRS = 1_000_000
MOST_PIXELS = 2**24
"""What an embedded source draws at most: pairs, and pixels of each."""


class EmbeddedSource(ABC):
    """Pairs made when asked for, each from its own key; nothing is cached.

    Args:
        name: Short name for tables and messages.
        count: How many pairs, at least 1.
        seed: Run seed.
        size: (height, width), each at least 32 pixels.
        split: One of `splits`; splits share no image.
        splits: What there is.
        rain: How the rain looks; None takes the defaults.

    Raises:
        UsageError: The count, the size or the split is out of range.
    """

    def __init__(
        self,
        name: str,
        count: int,
        *,
        seed: int,
        size: tuple[int, int],
        split: str,
        splits: tuple[str, ...],
        rain: RainSettings | None,
    ) -> None:
        if not 1 <= count <= MOST_PAIRS:
            raise UsageError(f"{name}: count={count}: at least 1 and at most {MOST_PAIRS:,}")
        if size[0] * size[1] > MOST_PIXELS:
            raise UsageError(f"{name}: size {size[0]}x{size[1]}: at most {MOST_PIXELS:,} pixels, like 4096x4096")
        if min(size) < SMALLEST_SIDE:
            raise UsageError(f"{name}: size {size[0]}x{size[1]}: height and width of at least {SMALLEST_SIDE} pixels")
        if split not in splits:
            raise UsageError(f"{name}: split {split!r}: one of {', '.join(splits)}")
        self._name = name
        self._count = count
        self._seed = seed
        self._size = size
        self._split = split
        self._rain = rain if rain is not None else RainSettings()

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self._name

    @property
    def paired(self) -> bool:
        """Every pair has its ground truth."""
        return True

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """Everything that the bytes depend on."""
        return {
            "source": self._name,
            **self._origin(),
            "split": self._split,
            "seed": self._seed,
            "count": self._count,
            "height": self._size[0],
            "width": self._size[1],
            "rain": self._rain.digest(),
            "rain_version": RAIN_VERSION,
        }

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < self._count:
            raise IndexError(f"{self._name}: pair {index} of {self._count}")
        return self._make(index)

    def ids(self) -> list[str]:
        """The ids in order."""
        return [self._id(index) for index in range(self._count)]

    @abstractmethod
    def _origin(self) -> Mapping[str, str | int]:
        """What the clean images depend on besides seed, split and size."""

    @abstractmethod
    def _make(self, index: int) -> Pair:
        """One pair."""

    @abstractmethod
    def _id(self, index: int) -> str:
        """Its id."""
