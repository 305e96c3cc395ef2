"""The embedded scenes as a source of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust import keyed
from deploy_robust.data.embedded import EmbeddedSource
from deploy_robust.data.pairs import Pair
from deploy_robust.data.rain import add_rain
from deploy_robust.data.scenes.drawing import draw_scene

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.data.rain import RainSettings

SceneSplit = Literal["train", "validation", "calibration", "test"]

GENERATOR_VERSION = 1
"""Raised whenever the same key would draw another image."""


class SceneSource(EmbeddedSource):
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
        super().__init__("scenes", count, seed=seed, size=size, split=split, splits=get_args(SceneSplit), rain=rain)

    def _origin(self) -> Mapping[str, str | int]:
        return {"generator": GENERATOR_VERSION}

    def _make(self, index: int) -> Pair:
        scene = draw_scene(keyed.generator(self._seed, "scene", self._split, index), *self._size)
        rain = keyed.generator(self._seed, "rain", "scene", self._split, index)
        rainy = add_rain(scene.clean, rain, self._rain, depth=scene.depth)
        name = self._id(index)
        return Pair(id=name, rainy=rainy, clean=scene.clean, scene=name, labels=scene.labels)

    def _id(self, index: int) -> str:
        """Like ``scene-test-000012``."""
        return f"scene-{self._split}-{index:06d}"
