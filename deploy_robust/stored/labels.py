"""Ground truth for downstream tasks, as a set keeps it: classes as a grey PNG, the rest in the index."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deploy_robust.data.images import safe_text
from deploy_robust.data.pairs import Box, Labels
from deploy_robust.errors import ImageError
from deploy_robust.stored.index import StoredLabels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def to_index(labels: Labels, file: str | None) -> StoredLabels | None:
    """What the index says of labels; None where there are none.

    Args:
        labels: Of a pair.
        file: Name of the file that holds the classes; None where there are none.
    """
    if file is None and not labels.boxes and not labels.class_names:
        return None
    boxes = tuple((box.label, box.x0, box.y0, box.x1, box.y1) for box in labels.boxes)
    return StoredLabels(file, tuple(labels.class_names), boxes)


def from_index(data: StoredLabels | None, folder: Path) -> Labels:
    """The reverse.

    Raises:
        ImageError: The file of classes cannot be read.
    """
    if data is None:
        return Labels()
    classes = None if data.file is None else _read(folder / data.file)
    return Labels(classes, data.class_names, tuple(Box(*box) for box in data.boxes))


def to_png(classes: NDArray[np.uint8]) -> bytes:
    """Classes (H, W) uint8 as the bytes of a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(classes).save(buffer, format="PNG")
    return buffer.getvalue()


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode != "L":
                raise ImageError(f"{safe_text(str(path))}: holds no classes but {image.mode}: copy the set again")
            return np.asarray(image).copy()
    except (OSError, ValueError) as error:
        raise ImageError(f"{safe_text(str(path))}: cannot be read ({error}): copy the set again") from None
