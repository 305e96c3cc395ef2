"""One scene, drawn: layout, then sky, ground, houses and objects, then the camera's own marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.data.pairs import Box, Labels
from deploy_robust.data.scenes.canvas import CLASS, CLASS_NAMES, Canvas
from deploy_robust.data.scenes.cars import paint_car
from deploy_robust.data.scenes.ground import paint_ground, paint_sky
from deploy_robust.data.scenes.houses import paint_backdrop, paint_houses
from deploy_robust.data.scenes.objects import paint_person, paint_pole, paint_tree
from deploy_robust.data.scenes.placing import draw_layout
from deploy_robust.data.scenes.texture import Texture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.data.scenes.canvas import Floats
    from deploy_robust.data.scenes.layout import Layout

SMALLEST_OBJECT = 12
"""Cars and persons that show fewer pixels than this are too small to find: ignored in the labels, without a box."""

IGNORED = 255
"""Class index of pixels that no metric counts."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn scene.

    Attributes:
        clean: (H, W, 3) uint8 RGB.
        depth: Distance along the optical axis, (H, W) float32, metres.
        labels: Classes of all pixels; boxes of cars and persons around their visible pixels.
    """

    clean: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: Labels


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw one street scene.

    Args:
        rng: Where all draws come from; the layout does not depend on the size.
        height: Rows.
        width: Columns.

    Returns:
        The scene without rain.
    """
    layout = draw_layout(rng)
    natural, grainy = Texture(rng, 1.0), Texture(rng, 0.6)
    canvas = Canvas(
        height,
        width,
        focal=layout.focal * float(np.sqrt(height * width)),
        horizon=layout.horizon,
        vanishing=layout.vanishing,
        eye=layout.eye,
    )
    paint_sky(canvas, layout, natural)
    paint_ground(canvas, layout, grainy)
    paint_backdrop(canvas, layout, natural, built=bool(rng.random() < 0.4))
    paint_houses(canvas, layout, grainy)
    for tree in layout.trees:
        paint_tree(canvas, tree, layout, natural)
    for number, car in enumerate(layout.cars):
        paint_car(canvas, car, layout, number)
    for number, person in enumerate(layout.persons, start=len(layout.cars)):
        paint_person(canvas, person, layout, number)
    for pole in layout.poles:
        paint_pole(canvas, pole, layout)

    colour, depth, classes, instance = canvas.resolve()
    return Scene(_photograph(colour, depth, layout, natural, rng), depth, _labels(classes, instance))


def _photograph(
    colour: Floats, depth: Floats, layout: Layout, texture: Texture, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Aerial perspective, vignette, the fine 1/f texture of natural images, sensor noise and 8 bits."""
    height, width = depth.shape
    air = (1.0 - np.exp(-np.minimum(depth, 400.0) / 260.0)) * (depth < 900)
    colour = colour + (np.array(layout.light.horizon, np.float32) - colour) * air[..., None]
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    colour *= (1.0 - 0.12 * (rows**2 + columns**2) / 2)[..., None]
    fine = texture.at(columns * width / 2 + 77.0, rows * height / 2 + 33.0)
    colour *= (1.0 + 0.025 * fine)[..., None]
    colour += rng.standard_normal(colour.shape, dtype=np.float32) * 1.2
    colour *= np.float32(rng.uniform(0.88, 1.08))  # exposure
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)


def _labels(classes: NDArray[np.uint8], instance: NDArray[np.int16]) -> Labels:
    """Boxes tight around the visible pixels of each object; what shows too little is ignored."""
    boxes = []
    for number in range(int(instance.max()) + 1):
        rows, columns = np.nonzero(instance == number)
        if not len(rows):
            continue
        if len(rows) < SMALLEST_OBJECT:
            classes[rows, columns] = IGNORED
            continue
        label = "car" if classes[rows[0], columns[0]] == CLASS["car"] else "person"
        corners = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        boxes.append(Box(label, *corners))
    return Labels(classes=classes, class_names=CLASS_NAMES, boxes=tuple(boxes))
