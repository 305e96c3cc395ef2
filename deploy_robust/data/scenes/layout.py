"""What stands where in a scene: drawn once from the scene's key, in metres, before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Light:
    """Time of day. Colours are 0 to 255; `sun` multiplies what stands in the light, `shade` what does not."""

    top: Colour
    horizon: Colour
    sun: Colour
    shade: float
    clouds: float
    lit_windows: float


@dataclass(frozen=True, slots=True)
class Row:
    """The houses and gaps along one side of the street, as columns of one table.

    Attributes:
        side: -1 for the left, +1 for the right.
        x: Where the facades stand, metres.
        starts: Z of each block's near edge, (n,), increasing.
        heights: Height of the eaves, (n,); 0 is a gap.
        roofs: Height of the visible roof above the eaves, (n,).
        walls: Wall colours, (n, 3).
        roof_colours: (n, 3).
        pitches: Spacing of the windows along the wall, (n,).
        storeys: Height of a storey, (n,).
        fills: Share of the spacing and of the storey that a window fills, (n, 2).
        shops: Whether the ground floor is a shop front, (n,).
    """

    side: int
    x: float
    starts: NDArray[np.float32]
    heights: NDArray[np.float32]
    roofs: NDArray[np.float32]
    walls: NDArray[np.float32]
    roof_colours: NDArray[np.float32]
    pitches: NDArray[np.float32]
    storeys: NDArray[np.float32]
    fills: NDArray[np.float32]
    shops: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree: middle of the trunk, radius and height of the middle of its crown, metres."""

    x: float
    z: float
    radius: float
    height: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Car:
    """A car, `z` being its near end; `belt` is the lower edge of its windows, `top` its roof, all metres."""

    x: float
    z: float
    width: float
    length: float
    belt: float
    top: float
    colour: Colour
    oncoming: bool


@dataclass(frozen=True, slots=True)
class Person:
    """A pedestrian; `stride` is the signed swing of the legs, in parts of the height."""

    x: float
    z: float
    height: float
    stride: float
    shirt: Colour
    trousers: Colour
    skin: Colour
    hair: Colour


@dataclass(frozen=True, slots=True)
class Pole:
    """A post and its top: ``lamp``, ``round sign``, ``square sign``, ``triangle sign`` or ``traffic light``."""

    x: float
    z: float
    height: float
    carries: str
    colour: Colour


@dataclass(frozen=True, slots=True)
class Layout:
    """One scene.

    Attributes:
        focal: Focal length in parts of the square root of the image's area.
        horizon: Row of the horizon as a fraction of the height.
        vanishing: Column of the vanishing point as a fraction of the width.
        eye: Height of the camera, metres.
        light: Time of day.
        sun_side: -1 or +1: the side that the sun shines on.
        road: X of the road's left and right kerb, metres.
        lanes: X of each line between lanes.
        pavements: Widths of the left and right pavement.
        verges: Width of the green strip behind each pavement.
        crossing: Z of a zebra crossing; None for none.
        asphalt: Colour of the road.
        slabs: Colour of the pavement.
        grass: Colour of the verge.
        rows: Houses on the left and on the right.
        trees: Trees.
        cars: Cars.
        persons: Pedestrians.
        poles: Posts.
    """

    focal: float
    horizon: float
    vanishing: float
    eye: float
    light: Light
    sun_side: int
    road: tuple[float, float]
    lanes: tuple[float, ...]
    pavements: tuple[float, float]
    verges: tuple[float, float]
    crossing: float | None
    asphalt: Colour
    slabs: Colour
    grass: Colour
    rows: tuple[Row, Row]
    trees: tuple[Tree, ...]
    cars: tuple[Car, ...]
    persons: tuple[Person, ...]
    poles: tuple[Pole, ...]
