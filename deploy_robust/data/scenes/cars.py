"""Cars: a near end of three tilted planes, and the side that faces the camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.data.scenes.canvas import CLASS

if TYPE_CHECKING:
    from deploy_robust.data.scenes.canvas import Canvas, Floats, Window
    from deploy_robust.data.scenes.layout import Car, Colour, Layout

_CLEARANCE = 0.26
_INSET = 0.16
"""By how much each side window leans inwards, metres."""

_GLASS: Colour = (40, 48, 58)


def paint_car(canvas: Canvas, car: Car, layout: Layout, instance: int) -> None:
    """Shadow, side and near end; the depth buffer sorts them."""
    half = car.width / 2
    near, far = max(car.z, 0.8), car.z + car.length
    left, right = car.x - half, car.x + half
    # The far end lies nearer the middle of the image than the near end, so both bound the window.
    slopes = (left / near, left / far, right / near, right / far)
    bounds = (min(slopes) * near - 0.4, max(slopes) * near + 0.4)
    window = canvas.window(*bounds, -0.05, max(car.top, canvas.eye + 0.5), near)
    if window is None:
        return
    _paint_shadow(canvas, window, car)
    if left > 0.2 or right < -0.2:
        _paint_side(canvas, window, car, layout, instance)
    _paint_end(canvas, window, car, layout, instance)


def _paint_shadow(canvas: Canvas, window: Window, car: Car) -> None:
    u, v = canvas.rays(window)
    z = canvas.eye / np.maximum(v, 1e-4)
    x = (u * z - car.x) / (car.width / 2 + 0.12)
    along = (z - car.z - car.length / 2) / (car.length / 2 + 0.15)
    distance = np.maximum(np.abs(x), np.abs(along))
    ground = np.isin(canvas.classes[window], (CLASS["road"], CLASS["sidewalk"], CLASS["terrain"]))
    canvas.colour[window] *= np.where(ground & (v > 0), np.clip(4.0 * distance - 3.2, 0.3, 1.0), 1.0)[..., None]


def _paint_side(canvas: Canvas, window: Window, car: Car, layout: Layout, instance: int) -> None:
    u, v = canvas.rays(window)
    towards = 1.0 if car.x > 0 else -1.0  # from the visible side to the car's middle
    plane = car.x - towards * car.width / 2
    light = _sun(layout) * (1.0 if towards == layout.sun_side else 0.5 + 0.5 * layout.light.shade)

    ray = np.where(np.abs(u) < 1e-4, 1e-4, u)
    z = plane / ray
    z = np.where(z > 0, z, np.float32(1e6))
    height, t = canvas.eye - v * z, (z - car.z) / car.length
    ends = (t > 0.0) & (t < 1.0)
    curve = 0.14 * np.clip(np.abs(t - 0.5) * 2 - 0.75, 0, 1)
    body = ends & (height > _CLEARANCE) & (height < car.belt - curve)
    paint = np.array(car.colour, np.float32) * light
    shade = 0.82 + 0.25 * np.clip(height / car.belt, 0, 1)
    seams = (np.abs(t - 0.36) < 0.006) | (np.abs(t - 0.62) < 0.006)
    sill = height < 0.36
    colour = paint * np.where(seams | sill, 0.55, shade)[..., None]
    canvas.paint(window, body, z, colour.astype(np.float32), "car", instance=instance)

    for axle in (0.19, 0.8):
        radius = np.hypot((t - axle) * car.length, height - 0.31)
        rim = np.where((radius < 0.19)[..., None], np.array((122, 124, 128), np.float32), np.float32(22.0)) * light
        canvas.paint(window, radius < 0.32, z - 0.02, rim.astype(np.float32), "car", instance=instance)

    # The cabin leans inwards: X = plane + towards * lean * (H - belt), which meets the ray at one Z.
    lean = _INSET / (car.top - car.belt) * towards
    z = (plane + lean * (canvas.eye - car.belt)) / np.where(np.abs(u + lean * v) < 1e-4, 1e-4, u + lean * v)
    z = np.where(z > 0, z, np.float32(1e6))
    height, t = canvas.eye - v * z, (z - car.z) / car.length
    k = (height - car.belt) / (car.top - car.belt)
    front, back = _cabin(car)
    cabin = (k >= -0.02) & (k < 1.0) & (t > front[0] + front[1] * k) & (t < 1.0 - back[0] - back[1] * k)
    margin = 0.035
    panes = (
        (k > 0.1) & (k < 0.84) & (t > front[0] + margin + front[1] * k) & (t < 1.0 - back[0] - margin - back[1] * k)
    ) & (np.abs(t - 0.5) > 0.012)
    glass = np.array(_GLASS, np.float32) * (0.9 + 0.7 * np.clip(k, 0, 1))[..., None]
    colour = np.where(panes[..., None], glass * light, paint)
    canvas.paint(window, cabin, z, colour.astype(np.float32), "car", instance=instance)


def _cabin(car: Car) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the cabin begins and ends at the belt, and how much it recedes up to the roof, parts of the length."""
    boot, bonnet = (0.08, 0.1), (0.24, 0.16)
    return (bonnet, boot) if car.oncoming else (boot, bonnet)


def _paint_end(canvas: Canvas, window: Window, car: Car, layout: Layout, instance: int) -> None:
    front, _ = _cabin(car)
    half = car.width / 2
    light = _sun(layout) * (0.55 + 0.45 * layout.light.shade)
    paint = np.array(car.colour, np.float32) * light
    lid = car.belt - (0.16 if car.oncoming else 0.06)
    u, v = canvas.rays(window)

    # Upright part: bumper, lamps, plate.
    x, height = u * car.z - car.x, canvas.eye - v * car.z
    a = np.abs(x) / half
    rounding = 0.05 * np.clip(a - 0.8, 0, 1) / 0.2
    end = (a < 1.0) & (height > _CLEARANCE + rounding) & (height < lid)
    tyres = (a > 0.7) & (a < 0.97) & (height > 0.0) & (height < _CLEARANCE + 0.1)
    colour = paint * np.where(height < 0.46, 0.55, 0.9 + 0.1 * height)[..., None]
    lamps = (a > 0.62) & (a < 0.96) & (np.abs(height - 0.68) < 0.09)
    glow = np.array((238, 236, 214) if car.oncoming else (196, 26, 24), np.float32)
    colour = np.where(lamps[..., None], glow * (0.8 + 0.2 * light), colour)
    if car.oncoming:
        grille = (a < 0.5) & (np.abs(height - 0.66) < 0.07)
        colour = np.where(grille[..., None], np.float32(28.0), colour)
    plate_at = 0.5 if car.oncoming else 0.62
    plate = (np.abs(x) < 0.26) & (np.abs(height - plate_at) < 0.06)
    colour = np.where(plate[..., None], np.array((214, 214, 206), np.float32) * light, colour)
    canvas.paint(window, tyres, car.z + 0.05, np.full(3, 18.0, np.float32), "car", instance=instance)
    canvas.paint(window, end, car.z, colour.astype(np.float32), "car", instance=instance)

    # Bonnet or boot lid, then the window: planes Z = start + tilt * (H - low).
    run = front[0] * car.length
    x, height, z = _tilted(canvas, window, car.z, run / (car.belt - lid), lid)
    mask = (np.abs(x - car.x) < half) & (height >= lid - 0.01) & (height < car.belt + 0.01)
    canvas.paint(window, mask, z, paint * np.float32(1.12), "car", instance=instance)

    x, height, z = _tilted(canvas, window, car.z + run, front[1] * car.length / (car.top - car.belt), car.belt)
    k = (height - car.belt) / (car.top - car.belt)
    width = half - _INSET * np.clip(k, 0, 1) - 0.3 * np.clip(k - 0.9, 0, 1)
    mask = (np.abs(x - car.x) < width) & (k >= -0.01) & (k < 1.0)
    pane = (np.abs(x - car.x) < width - 0.1) & (k > 0.1) & (k < 0.82)
    glass = np.array(_GLASS, np.float32) * (0.8 + 0.9 * np.clip(k, 0, 1))[..., None] * light
    colour = np.where(pane[..., None], glass, paint * np.float32(1.02))
    canvas.paint(window, mask, z, colour.astype(np.float32), "car", instance=instance)


def _tilted(canvas: Canvas, window: Window, start: float, tilt: float, low: float) -> tuple[Floats, Floats, Floats]:
    """Where the window's rays meet the plane Z = start + tilt * (H - low): X, H and Z."""
    u, v = canvas.rays(window)
    slope = 1.0 + tilt * v
    z = (start + tilt * (canvas.eye - low)) / np.where(slope > 1e-3, slope, np.float32(1e-3))
    return (u * z).astype(np.float32), (canvas.eye - v * z).astype(np.float32), z.astype(np.float32)


def _sun(layout: Layout) -> Floats:
    return np.array(layout.light.sun, np.float32)
