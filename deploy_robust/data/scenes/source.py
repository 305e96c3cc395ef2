"""The embedded scenes as a source of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust import keyed
from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.data.pairs import Pair
from deploy_robust.data.rain import RAIN_VERSION, RainSettings, add_rain
from deploy_robust.data.scenes.drawing import draw_scene
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SceneSplit = Literal["train", "validation", "calibration", "test"]

GENERATOR_VERSION = 1
"""Raised whenever the same key would draw another image."""


class SceneSource:
    """Street scenes drawn when asked for, each from its own key: the embedded scene generator.

    A scene depends on the seed, the split and its index, never on how many there are or on the order of asking. Splits
    draw from disjoint keys, so no scene of one split occurs in another. The layout of a scene does not depend on the
    size. Nothing is cached.

    Args:
        count: How many scenes, at least 1.
        seed: Run seed.
        size: (height, width), each at least 32 pixels.
        split: ``train``, ``validation``, ``calibration`` or ``test``.
        rain: How the rain looks; None takes the defaults.

    Raises:
        UsageError: The count, the size or the split is out of range.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 0,
        size: tuple[int, int] = (128, 128),
        split: SceneSplit = "test",
        rain: RainSettings | None = None,
    ) -> None:
        if count < 1:
            raise UsageError(f"scenes: count={count}: at least 1")
        if min(size) < SMALLEST_SIDE:
            raise UsageError(f"scenes: size {size[0]}x{size[1]}: height and width of at least {SMALLEST_SIDE} pixels")
        if split not in get_args(SceneSplit):
            raise UsageError(f"scenes: split {split!r}: one of {', '.join(get_args(SceneSplit))}")
        self._count = count
        self._seed = seed
        self._size = size
        self._split = split
        self._rain = rain if rain is not None else RainSettings()

    @property
    def name(self) -> str:
        """Short name for tables."""
        return "scenes"

    @property
    def paired(self) -> bool:
        """Every scene has its ground truth."""
        return True

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """Everything that the bytes depend on."""
        return {
            "source": self.name,
            "generator": GENERATOR_VERSION,
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
            raise IndexError(f"scene {index} of {self._count}")
        scene = draw_scene(keyed.generator(self._seed, "scene", self._split, index), *self._size)
        rain = keyed.generator(self._seed, "rain", "scene", self._split, index)
        rainy = add_rain(scene.clean, rain, self._rain, depth=scene.depth)
        name = self._id(index)
        return Pair(id=name, rainy=rainy, clean=scene.clean, scene=name, labels=scene.labels)

    def ids(self) -> list[str]:
        """The ids in order, like ``scene-test-000012``."""
        return [self._id(index) for index in range(self._count)]

    def _id(self, index: int) -> str:
        return f"scene-{self._split}-{index:06d}"
