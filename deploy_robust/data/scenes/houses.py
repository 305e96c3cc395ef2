"""Rows of houses, and what closes the street in the distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.data.scenes.canvas import Canvas, Floats
    from deploy_robust.data.scenes.layout import Layout, Row
    from deploy_robust.data.scenes.texture import Texture

_DEPTH = 11.0
"""How far a house reaches back from the street, metres."""

_BACKDROP = 130.0
"""Distance of what closes the street, metres."""


def paint_houses(canvas: Canvas, layout: Layout, texture: Texture) -> None:
    """Facades along the street, and the gables that show above lower neighbours and gaps."""
    for row in layout.rows:
        facing = 1.0 if row.side == layout.sun_side else layout.light.shade
        _paint_facades(canvas, row, layout, texture, facing)
        _paint_gables(canvas, row, layout, texture, 0.5 * (1.0 + layout.light.shade) * 0.9)


def paint_backdrop(canvas: Canvas, layout: Layout, texture: Texture, built: bool) -> None:
    """A line of trees or of distant houses at the end of the street."""
    window = canvas.window(-4 * _BACKDROP, 4 * _BACKDROP, 0.0, 26.0, _BACKDROP)
    if window is None:
        return
    u, v = canvas.rays(window)
    x, height = u * _BACKDROP, canvas.eye - v * _BACKDROP
    if built:
        block = np.floor(x / 11.0)
        top = 10.0 + 4.0 * texture.at(block * 7.0, block * 3.0)
        windows = (np.mod(x, 2.6) < 1.2) & (np.mod(height, 3.0) < 1.4)
        shade = (1.0 + 0.12 * texture.at(block * 5.0, block))[..., None] * np.where(windows[..., None], 0.72, 1.0)
        colour = np.array((150, 140, 132), np.float32) * shade
    else:
        top = 9.0 + 2.6 * texture.smooth(x * 0.35, np.zeros_like(x)) + 0.8 * texture.smooth(x * 3.0, np.ones_like(x))
        leaf = texture.at(x * 2.5, height * 2.5)
        colour = np.array((70, 92, 58), np.float32) * (1.0 + 0.2 * leaf)[..., None]
    lit = (colour * np.array(layout.light.sun, np.float32)).astype(np.float32)
    canvas.paint(window, (height < top) & (height > 0), _BACKDROP, lit, "building" if built else "vegetation")


def _paint_facades(canvas: Canvas, row: Row, layout: Layout, texture: Texture, facing: float) -> None:
    seen = np.flatnonzero((canvas.u[0] * row.side > 0) & (row.x / canvas.u[0] < _BACKDROP))
    if not len(seen):
        return
    columns = slice(int(seen[0]), int(seen[-1]) + 1)
    # A facade never reaches below the ground line of its nearest column.
    foot = int(np.searchsorted(canvas.v[:, 0], canvas.eye * np.abs(canvas.u[0, columns]).max() / abs(row.x)))
    window = (slice(0, foot), columns)
    u, v = canvas.rays(window)
    z = row.x / u  # (1, w): the ray meets the plane X = row.x
    block = np.searchsorted(row.starts, z[0], side="right") - 1
    known = block >= 0
    block = np.maximum(block, 0)
    height = canvas.eye - v * z
    mask = (height > 0) & (height < (row.heights + row.roofs)[block]) & (row.heights[block] > 0) & known
    colour = _wall(z - row.starts[block], height, row, block, layout, texture)
    canvas.paint(window, mask, z, (colour * np.float32(facing)).astype(np.float32), "building")


def _paint_gables(canvas: Canvas, row: Row, layout: Layout, texture: Texture, facing: float) -> None:
    for index, z in enumerate(row.starts.tolist()):
        total = float(row.heights[index] + row.roofs[index])
        before = float(row.heights[index - 1]) if index else 0.0
        if row.heights[index] == 0 or before >= total or z > _BACKDROP:
            continue
        near, far = sorted((row.x, row.x + row.side * _DEPTH))
        window = canvas.window(near, far, 0.0, total, z)
        if window is None:
            continue
        u, v = canvas.rays(window)
        across = (u * z - row.x) * row.side  # 0 at the street, (1, w)
        height = canvas.eye - v * z
        # The gable narrows over the roof towards the ridge in its middle.
        ridge = row.heights[index] + row.roofs[index] * (1.0 - np.abs(2.0 * across / _DEPTH - 1.0))
        mask = (height > 0) & (height < ridge) & (across > 0) & (across < _DEPTH)
        block = np.full(across.shape[1], index)
        colour = _wall(across, np.minimum(height, row.heights[index] - 0.01), row, block, layout, texture)
        canvas.paint(window, mask, z, (colour * np.float32(facing)).astype(np.float32), "building")


def _wall(along: Floats, height: Floats, row: Row, block: NDArray[np.intp], layout: Layout, texture: Texture) -> Floats:
    """Colour of a wall with its windows and roof.

    Args:
        along: Distance along the wall, (1, w), metres.
        height: Above the ground, (h, w), metres.
        row: The houses.
        block: Which house each column shows, (w,).
        layout: For the light.
        texture: For plaster, tiles and lit windows.

    Returns:
        (h, w, 3) float32.
    """
    eaves, storey, pitch = row.heights[block], row.storeys[block], row.pitches[block]
    wide, tall = row.fills[block, 0], row.fills[block, 1]
    level, bay = np.floor(height / storey), np.floor(along / pitch)
    in_bay, in_level = along / pitch - bay, height / storey - level
    ground = level < 1
    shop = ground & row.shops[block]
    wide, tall = np.where(shop, 0.86, wide), np.where(shop, 0.72, tall)
    off_x, off_y = np.abs(in_bay - 0.5) / wide, np.abs(in_level - 0.52) / tall
    whole = (level + 1) * storey < eaves + 0.3
    frame = (off_x < 0.5) & (off_y < 0.5) & whole & (height < eaves)
    pane = frame & (off_x < 0.43) & (off_y < 0.44)

    chance = texture.at(bay * 37.0 + block * 11.0, level * 53.0 + block * 5.0)  # one value for each window
    lit = pane & (chance > 2.2 * (0.75 - layout.light.lit_windows) ** 0.5 - 0.1)
    plaster = texture.smooth(along * 9.0, height * 9.0) * 0.05 + texture.smooth(along * 0.8, height * 0.8) * 0.04
    shade = 1.0 + plaster - 0.16 * np.exp(-2.0 * np.clip(height, 0.0, 50.0))  # dirt at the foot of the wall
    colour = row.walls[block] * shade[..., None]
    colour = np.where((in_level < 0.035)[..., None] & (height > storey)[..., None], colour * 0.86, colour)
    colour = np.where(frame[..., None], np.minimum(colour * 1.25, 225.0), colour)
    glass = np.array((58, 68, 82), np.float32) * (1.0 + 0.28 * chance + 0.25 * in_level)[..., None]
    colour = np.where(pane[..., None], glass, colour)
    colour = np.where(lit[..., None], np.array((240, 206, 140), np.float32) * (0.8 + 0.1 * chance)[..., None], colour)
    above = height >= eaves
    tiles = row.roof_colours[block] * (1.0 + 0.08 * texture.at(along * 6.0, height * 12.0))[..., None]
    colour = np.where(above[..., None], tiles, colour)
    lit_colour: Floats = (colour * np.array(layout.light.sun, np.float32)).astype(np.float32)
    return lit_colour
