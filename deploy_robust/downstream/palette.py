"""Colours of classes: those of Cityscapes where it has them, others from a wheel."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_CITYSCAPES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}


def painted(labels: NDArray[np.integer], names: Sequence[str]) -> NDArray[np.uint8]:
    """A label map in colours; what is none of the names is black.

    Args:
        labels: (H, W) integers.
        names: Name of each index.

    Returns:
        (H, W, 3) uint8.
    """
    wheel = [
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(place * 0.618 % 1, 0.65, 0.9))
        for place in range(len(names))
    ]
    colours = np.array([_CITYSCAPES.get(name, wheel[place]) for place, name in enumerate(names)] + [(0, 0, 0)])
    known = np.where((labels >= 0) & (labels < len(names)), labels, len(names))
    picture: NDArray[np.uint8] = colours.astype(np.uint8)[known]
    return picture
