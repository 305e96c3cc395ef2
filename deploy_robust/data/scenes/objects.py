"""Things that stand in the street: trees, pedestrians and posts. Cars have a file of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.data.scenes.canvas import Canvas, Floats
    from deploy_robust.data.scenes.layout import Colour, Layout, Person, Pole, Tree
    from deploy_robust.data.scenes.texture import Texture


def paint_tree(canvas: Canvas, tree: Tree, layout: Layout, texture: Texture) -> None:
    """A trunk, and a crown whose edge and leaves follow the 1/f noise."""
    reach = 1.5 * tree.radius
    window = canvas.window(tree.x - reach, tree.x + reach, 0.0, tree.height + reach, tree.z)
    if window is None:
        return
    u, v = canvas.rays(window)
    x, height = u * tree.z - tree.x, canvas.eye - v * tree.z
    a, b = x / tree.radius, (height - tree.height) / (1.1 * tree.radius)
    clumps = texture.smooth(x * 5.0 + tree.z * 31.0, height * 5.0 + tree.x * 17.0)
    leaves = texture.at(x * 22.0 + tree.z * 7.0, height * 22.0)
    crown = a * a + b * b + 0.26 * clumps + 0.08 * leaves < 1.0
    shade = 0.72 + 0.3 * np.clip(b, -1, 1) + 0.16 * a * layout.sun_side * -1.0 + 0.2 * clumps + 0.16 * leaves
    green = _lit(tree.colour, layout) * 1.25 * np.clip(shade, 0.25, 1.6)[..., None]
    trunk = (np.abs(x) < 0.07 * tree.radius + 0.03) & (height > 0) & (height < tree.height)
    bark = _lit((84, 68, 54), layout) * (0.8 + 0.12 * leaves - 1.2 * x * layout.sun_side)[..., None]
    colour = np.where(crown[..., None], green, bark).astype(np.float32)
    canvas.paint(window, crown | trunk, tree.z, colour, "vegetation")


def paint_person(canvas: Canvas, person: Person, layout: Layout, instance: int) -> None:
    """Head, trunk, two arms and two legs, as capsules; lengths are in parts of the person's height."""
    size, z = person.height, person.z
    window = canvas.window(person.x - 0.4 * size, person.x + 0.4 * size, 0.0, size, z)
    if window is None:
        return
    u, v = canvas.rays(window)
    x, h = (u * z - person.x) / size, (canvas.eye - v * z) / size
    stride = person.stride
    light = 1.0 - 0.9 * np.clip(x * layout.sun_side, -0.2, 0.2)
    parts: list[tuple[NDArray[np.bool_], Colour]] = []
    for swing in (stride, -stride):
        parts.append((_capsule(x, h, (0.45 * swing, 0.5), (swing, 0.04), 0.052), person.trousers))
        parts.append((_capsule(x, h, (swing, 0.022), (swing + 0.05, 0.018), 0.026), (32, 28, 28)))
    parts.append((_capsule(x, h, (0.0, 0.55), (0.0, 0.74), 0.1), person.shirt))
    for shoulder, swing in ((-0.105, stride), (0.105, -stride)):
        hand = (shoulder * 1.25 + 0.8 * swing, 0.46)
        parts.append((_capsule(x, h, (shoulder, 0.78), hand, 0.034), _darker(person.shirt, 0.82)))
        parts.append((_capsule(x, h, hand, hand, 0.032), person.skin))
    parts.append((_capsule(x, h, (0.0, 0.84), (0.0, 0.9), 0.035), person.skin))
    parts.append((_capsule(x, h, (0.0, 0.915), (0.0, 0.94), 0.06), person.hair))
    parts.append((_capsule(x, h, (0.012, 0.9), (0.012, 0.92), 0.05), person.skin))
    for mask, colour in parts:
        canvas.paint(window, mask, z, _lit(colour, layout) * light[..., None], "person", instance=instance)
        z -= 0.001  # each part lies before the last


def paint_pole(canvas: Canvas, pole: Pole, layout: Layout) -> None:
    """A post and what it carries."""
    z = pole.z
    window = canvas.window(pole.x - 1.6, pole.x + 1.6, 0.0, pole.height + 0.7, z)
    if window is None:
        return
    u, v = canvas.rays(window)
    x, h = u * z - pole.x, canvas.eye - v * z
    post = (np.abs(x) < 0.06) & (h > 0) & (h < pole.height)
    metal = _lit((104, 108, 112), layout) * np.clip(1.0 - 3.0 * x * layout.sun_side, 0.7, 1.3)[..., None]
    if pole.carries == "lamp":
        inwards = -1.0 if pole.x > 0 else 1.0
        arm = _capsule(x, h, (0.0, pole.height - 0.1), (1.2 * inwards, pole.height + 0.25), 0.045)
        head = _capsule(x, h, (0.85 * inwards, pole.height + 0.16), (1.35 * inwards, pole.height + 0.22), 0.1)
        canvas.paint(window, post | arm | head, z, metal, "pole")
        return
    canvas.paint(window, post, z, metal, "pole")
    if pole.carries == "traffic light":
        _paint_traffic_light(canvas, pole, layout)
        return
    y = h - (pole.height - 0.2)
    if pole.carries == "round sign":
        distance = np.hypot(x, y) / 0.34
    elif pole.carries == "square sign":
        distance = np.maximum(np.abs(x), np.abs(y)) / 0.32
    else:
        distance = np.maximum(-y, 0.5 * y + 0.866 * np.abs(x)) / 0.24
    white = _lit((230, 230, 226), layout)
    # A coloured rim around white, or the other way round; a dark bar stands for the symbol.
    bar = (np.abs(x) < 0.05) & (np.abs(y) < 0.14)
    face = np.where((distance > 0.72)[..., None], _lit(pole.colour, layout), white)
    face = np.where(bar[..., None], _lit((30, 30, 34), layout), face).astype(np.float32)
    canvas.paint(window, distance < 1.0, z - 0.05, face, "traffic sign")


def _paint_traffic_light(canvas: Canvas, pole: Pole, layout: Layout) -> None:
    z = pole.z - 0.1
    window = canvas.window(pole.x - 0.2, pole.x + 0.2, pole.height - 0.75, pole.height + 0.2, z)
    if window is None:
        return
    u, v = canvas.rays(window)
    x, h = u * z - pole.x, canvas.eye - v * z - pole.height
    case = np.broadcast_to((np.abs(x) < 0.17) & (h < 0.18) & (h > -0.72), np.broadcast_shapes(x.shape, h.shape))
    canvas.paint(window, case, z, _lit((34, 36, 36), layout), "traffic light")
    lamps: tuple[tuple[float, Colour], ...] = (
        (0.0, (255, 50, 40)),
        (-0.27, (255, 190, 60)),
        (-0.54, (60, 240, 130)),
    )
    burning = int(pole.z * 7) % 3
    for number, (centre, colour) in enumerate(lamps):
        glow = np.array(colour if number == burning else _darker(colour, 0.22), np.float32)
        canvas.paint(window, np.hypot(x, h - centre) < 0.1, z - 0.01, glow, "traffic light")


def _capsule(
    x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float], radius: float
) -> NDArray[np.bool_]:
    """Where the distance to the segment from start to end is below the radius."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    t = np.clip((px * dx + py * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
    inside: NDArray[np.bool_] = (px - t * dx) ** 2 + (py - t * dy) ** 2 < radius * radius
    return inside


def _lit(colour: Colour, layout: Layout) -> Floats:
    return np.array(colour, np.float32) * np.array(layout.light.sun, np.float32)


def _darker(colour: Colour, share: float) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)
