"""The canvas: rays of a pinhole camera, a depth buffer, and the way down to exact 8-bit images and labels.

Everything is drawn at `SUPERSAMPLING` times the resolution with hard edges; averaging gives antialiased colours, and
the class that most samples of a pixel show gives its label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""Computations; what is kept in a buffer is float32."""

Window = tuple[slice, slice]

CLASS_NAMES = (
    "road",
    "sidewalk",
    "building",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "car",
)
"""Class names in the order of their indices: those of Cityscapes that the generator draws."""

CLASS = {name: index for index, name in enumerate(CLASS_NAMES)}

SUPERSAMPLING = 2
"""Samples along each side of a pixel."""

FAR = 1000.0
"""Depth of the sky, metres."""


class Canvas:
    """What the camera sees, at supersampled resolution.

    The camera looks along +Z over flat ground; X points to the right and H up, all in metres. A sample's ray is
    ``X = u * Z`` and ``H = eye - v * Z``.

    Attributes:
        u: Horizontal ray slope of each column, (1, W) float32.
        v: Vertical ray slope of each row, positive below the horizon, (H, 1) float32.
        eye: Height of the camera above the ground, metres.
        colour: (H, W, 3) float32, 0 to 255.
        depth: Z of each sample, (H, W) float32, metres.
        classes: Index into `CLASS_NAMES`, (H, W) uint8.
        instance: Number of the object, (H, W) int16, -1 for none.
    """

    def __init__(self, height: int, width: int, *, focal: float, horizon: float, vanishing: float, eye: float) -> None:
        """Place the camera.

        Args:
            height: Rows of the final image.
            width: Columns of the final image.
            focal: Focal length, pixels of the final image.
            horizon: Row of the horizon as a fraction of the height.
            vanishing: Column where the road vanishes as a fraction of the width.
            eye: Height of the camera, metres.
        """
        s = SUPERSAMPLING
        columns = (np.arange(width * s, dtype=np.float32) + 0.5) / s
        rows = (np.arange(height * s, dtype=np.float32) + 0.5) / s
        # A ray exactly along an axis would divide by zero: move it by a thousandth of a pixel.
        self.u: Floats = ((columns - vanishing * width + 1e-3) / focal)[None, :].astype(np.float32)
        self.v: Floats = ((rows - horizon * height + 1e-3) / focal)[:, None].astype(np.float32)
        self.eye = eye
        self.colour: NDArray[np.float32] = np.zeros((height * s, width * s, 3), np.float32)
        self.depth: NDArray[np.float32] = np.full((height * s, width * s), FAR, np.float32)
        self.classes: NDArray[np.uint8] = np.full((height * s, width * s), CLASS["sky"], np.uint8)
        self.instance: NDArray[np.int16] = np.full((height * s, width * s), -1, np.int16)

    def window(self, left: float, right: float, bottom: float, top: float, z: float) -> Window | None:
        """The samples that may show a box at distance z, from X `left` to `right` and height `bottom` to `top`."""
        if z <= 0.1:
            return None
        x0, x1 = np.searchsorted(self.u[0], (left / z, right / z))
        y0, y1 = np.searchsorted(self.v[:, 0], ((self.eye - top) / z, (self.eye - bottom) / z))
        if x0 >= x1 or y0 >= y1:
            return None
        return slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def rays(self, window: Window) -> tuple[Floats, Floats]:
        """Slopes (u, v) of a window's rays, (1, w) and (h, 1)."""
        return self.u[:, window[1]], self.v[window[0]]

    def paint(
        self,
        window: Window,
        mask: NDArray[np.bool_],
        depth: Floats | float,
        colour: Floats,
        name: str,
        *,
        instance: int = -1,
    ) -> None:
        """Put a surface where its mask holds and nothing nearer stands.

        Args:
            window: Which samples.
            mask: Where the surface is, (h, w).
            depth: Its Z, broadcast to (h, w), metres.
            colour: Broadcast to (h, w, 3), 0 to 255.
            name: One of `CLASS_NAMES`.
            instance: Number of the object, -1 for none.
        """
        seen = mask & (depth < self.depth[window])
        if not seen.any():
            return
        self.colour[window][seen] = np.broadcast_to(colour, (*seen.shape, 3))[seen]
        self.depth[window][seen] = np.broadcast_to(np.asarray(depth, np.float32), seen.shape)[seen]
        self.classes[window][seen] = CLASS[name]
        self.instance[window][seen] = instance

    def resolve(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.int16]]:
        """Average down to the final resolution.

        Returns:
            Colour (H, W, 3), depth (H, W) in metres, classes (H, W) and instances (H, W); the last three are taken
            from one sample of the pixel, whose class most of the pixel's samples share.
        """
        s = SUPERSAMPLING
        height, width = self.depth.shape[0] // s, self.depth.shape[1] // s
        colour = self.colour.reshape(height, s, width, s, 3).mean(axis=(1, 3))
        offsets = [(i, j) for i in range(s) for j in range(s)]
        classes = np.stack([self.classes[i::s, j::s] for i, j in offsets])
        depth = np.stack([self.depth[i::s, j::s] for i, j in offsets])
        instance = np.stack([self.instance[i::s, j::s] for i, j in offsets])
        votes = (classes[:, None] == classes[None]).sum(axis=1)  # (samples, H, W)
        chosen = votes.argmax(axis=0)[None]
        return (
            colour,
            np.take_along_axis(depth, chosen, axis=0)[0],
            np.take_along_axis(classes, chosen, axis=0)[0],
            np.take_along_axis(instance, chosen, axis=0)[0],
        )
