"""Textures with the statistics of natural images: amplitude falling with frequency as 1/f."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.data.scenes.canvas import Floats

_SIDE = 256


class Texture:
    """One periodic tile of 1/f noise, zero mean and unit standard deviation, sampled anywhere.

    Natural images have an amplitude spectrum near 1/f (Field, JOSA A 1987); `slope` 1 is that, smaller is grainier.
    """

    def __init__(self, rng: np.random.Generator, slope: float = 1.0) -> None:
        white = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE)))
        fy, fx = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :]
        frequency = np.hypot(fy, fx)
        frequency[0, 0] = np.inf
        tile = np.fft.irfft2(white * frequency**-slope, s=(_SIDE, _SIDE))
        self._tile: NDArray[np.float32] = (tile / tile.std()).astype(np.float32)

    def at(self, x: Floats, y: Floats) -> NDArray[np.float32]:
        """The texel at (x, y), in texels and wrapped around, broadcast against each other."""
        columns = np.floor(x).astype(np.int32) & (_SIDE - 1)
        rows = np.floor(y).astype(np.int32) & (_SIDE - 1)
        return self._texels(rows, columns)

    def smooth(self, x: Floats, y: Floats) -> Floats:
        """As `at`, bilinearly between texels: for textures that are looked at from near."""
        left, upper = np.floor(x), np.floor(y)
        fx, fy = x - left, y - upper
        columns = left.astype(np.int32) & (_SIDE - 1)
        rows = upper.astype(np.int32) & (_SIDE - 1)
        next_columns, next_rows = (columns + 1) & (_SIDE - 1), (rows + 1) & (_SIDE - 1)
        upper_left, lower_left = self._texels(rows, columns), self._texels(next_rows, columns)
        top: Floats = upper_left + (self._texels(rows, next_columns) - upper_left) * fx
        bottom: Floats = lower_left + (self._texels(next_rows, next_columns) - lower_left) * fx
        smooth: Floats = top + (bottom - top) * fy
        return smooth

    def _texels(self, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.take(self._tile, rows * np.int32(_SIDE) + columns)
