"""Make scenes.png: three embedded scenes, clean, in the rain, and their labels. Run at the root of the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from deploy_robust.data.scenes import CLASS_NAMES, SceneSource

# The colours of Cityscapes.
COLOURS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "car": (0, 0, 142),
}
SIZE = (160, 288)
SCENES = (4, 8, 35)


def main() -> None:
    """Draw and save the picture."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASS_NAMES)] = [COLOURS[name] for name in CLASS_NAMES]
    height, width = SIZE
    sheet = Image.new("RGB", (3 * width, len(SCENES) * height))
    source = SceneSource(max(SCENES) + 1, size=SIZE)
    for row, index in enumerate(SCENES):
        pair = source[index]
        assert pair.clean is not None  # noqa: S101
        assert pair.labels.classes is not None  # noqa: S101
        labels = Image.fromarray(palette[pair.labels.classes])
        for box in pair.labels.boxes:
            ImageDraw.Draw(labels).rectangle((box.x0, box.y0, box.x1 - 1, box.y1 - 1), outline=(255, 255, 255))
        for column, image in enumerate((Image.fromarray(pair.clean), Image.fromarray(pair.rainy), labels)):
            sheet.paste(image, (column * width, row * height))
    sheet.quantize(128).save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
