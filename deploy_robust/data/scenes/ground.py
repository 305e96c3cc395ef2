"""Sky, road, pavements and verges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.data.scenes.canvas import CLASS, FAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.data.scenes.canvas import Canvas, Floats
    from deploy_robust.data.scenes.layout import Layout
    from deploy_robust.data.scenes.texture import Texture


def paint_sky(canvas: Canvas, layout: Layout, texture: Texture) -> None:
    """A gradient from the horizon up, with clouds that grow smaller towards the horizon."""
    rows = canvas.v[:, 0] < 0
    up = -canvas.v[rows]  # (h, 1), 0 at the horizon
    share = np.clip(up / 0.6, 0, 1) ** 0.7
    horizon, top = _array(layout.light.horizon), _array(layout.light.top)
    sky = horizon + (top - horizon) * share[..., None]  # (h, 1, 3)
    reach = 14.0 / (up + 0.12)
    noise = texture.smooth(canvas.u * reach + 40.0, reach) + 0.35 * texture.smooth(canvas.u * reach * 4, reach * 4)
    cover = np.clip((noise + 2.2 * layout.light.clouds - 1.2) * 0.9, 0, 1)[..., None]
    cloud = np.minimum(horizon * 1.06 + 8.0, 250.0) * (1.0 - 0.12 * np.clip(noise, -1, 2)[..., None] * cover)
    canvas.colour[rows] = sky + (cloud - sky) * cover * 0.8


def paint_ground(canvas: Canvas, layout: Layout, texture: Texture) -> None:
    """Everything flat: each sample below the horizon meets the plane H = 0 at Z = eye / v."""
    first = int(np.searchsorted(canvas.v[:, 0], canvas.eye / FAR))
    below = slice(first, None)
    z = np.minimum(canvas.eye / canvas.v[below], 400.0).astype(np.float32)  # (h, 1)
    x = canvas.u * z  # (h, w)
    left, right = layout.road
    on_road = (x > left) & (x < right)
    pavement = ~on_road & (x > left - layout.pavements[0]) & (x < right + layout.pavements[1])
    verge = ~on_road & ~pavement

    far = np.exp(-z / 30.0)  # fine texture fades where it is smaller than a pixel
    grain = texture.smooth(x * 24.0, z * 24.0) * far
    wear = texture.smooth(x * 3.0, z * 0.6)

    road = _array(layout.asphalt) * (1.0 + 0.10 * grain + 0.06 * wear)[..., None]
    marks = _marks(x, z, layout) & (wear + 0.6 * grain > -1.7)
    road = np.where(marks[..., None], np.float32(205.0) + 14.0 * grain[..., None], road)

    joints = ((np.mod(x, 0.75) < 0.05) | (np.mod(z, 0.75) < 0.05)) & (z < 18)
    slabs = _array(layout.slabs) * (1.0 + 0.07 * grain + 0.05 * wear - 0.18 * joints)[..., None]
    kerb = pavement & (x > left - 0.18) & (x < right + 0.18)
    slabs = np.where(kerb[..., None], slabs * 1.18, slabs)

    grass = _array(layout.grass) * (1.0 + 0.24 * grain + 0.14 * wear)[..., None]

    colour = np.where(on_road[..., None], road, np.where(pavement[..., None], slabs, grass))
    colour *= _sunlight(x, z, layout, texture)[..., None] * _array(layout.light.sun)
    canvas.colour[below] = colour
    canvas.depth[below] = np.broadcast_to(z, x.shape)
    classes = canvas.classes[below]
    classes[on_road], classes[pavement], classes[verge] = CLASS["road"], CLASS["sidewalk"], CLASS["terrain"]


def _marks(x: Floats, z: Floats, layout: Layout) -> NDArray[np.bool_]:
    """Where paint lies: dashed lines between lanes, solid lines along the kerbs, a zebra crossing."""
    left, right = layout.road
    dashes = np.mod(z, 6.0) < 3.0
    marks: NDArray[np.bool_] = (np.abs(x - left - 0.25) < 0.07) | (np.abs(x - right + 0.25) < 0.07)
    for line in layout.lanes:
        marks |= (np.abs(x - line) < 0.08) & dashes
    if layout.crossing is not None:
        zebra = (z > layout.crossing) & (z < layout.crossing + 3.0)
        marks &= ~zebra
        marks |= zebra & (np.mod(x, 1.0) < 0.5) & (x > left + 0.3) & (x < right - 0.3)
    return marks


def _sunlight(x: Floats, z: Floats, layout: Layout, texture: Texture) -> Floats:
    """1 in the sun, `Light.shade` in the shadow that the dark side's houses throw over the street."""
    left, right = layout.road
    edge = left + 0.25 * (right - left) if layout.sun_side > 0 else right - 0.25 * (right - left)
    ragged = x + 0.2 * texture.smooth(z * 1.5, np.zeros_like(z))
    shadow = ragged < edge if layout.sun_side > 0 else ragged > edge
    lit: Floats = np.where(shadow, np.float32(layout.light.shade), np.float32(1.0))
    return lit


def _array(colour: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array(colour, np.float32)
