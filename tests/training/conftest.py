"""A tiny pair source: colour gradients with bright lines, drawn in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy_robust import keyed
from deploy_robust.data.pairs import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stripes:
    """Smooth images under bright vertical lines."""

    name = "stripes"
    paired = True

    def __init__(self, count: int, *, seed: int = 0, size: tuple[int, int] = (40, 44)) -> None:
        self.count, self.seed, self.size = count, seed, size

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        return {"source": self.name, "count": self.count, "seed": self.seed}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        rng = keyed.generator(self.seed, "stripes", index)
        height, width = self.size
        ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0, 1, height)[:, None, None]
        clean = (30 + 120 * ramp * rng.uniform(0.5, 1, 3)).astype(np.uint8)
        rainy = clean.copy()
        rainy[:, rng.integers(0, width, width // 6)] = 230
        return Pair(id=f"stripes-{self.seed}-{index}", rainy=rainy, clean=clean, scene=f"{index}")

    def ids(self) -> list[str]:
        return [f"stripes-{self.seed}-{index}" for index in range(self.count)]


@pytest.fixture(scope="session")
def stripes() -> type[Stripes]:
    """The class of the tiny source."""
    return Stripes
