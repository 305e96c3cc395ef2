"""Pictures of what downstream networks saw, for a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from deploy_robust.report.thumbnails import data_uri, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploy_robust.report.downstream import DownstreamReport, Example, Sight
    from deploy_robust.report.summary import Run

_SIDE = 256
"""Smaller images are enlarged to it before boxes are drawn, so that lines stay thin beside them."""

_RIGHT, _FOUND = (255, 255, 255), (255, 64, 64)
_SHOWN = 0.3
"""Lowest score of a box that is drawn."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An example with its pictures as ``data:`` addresses.

    Attributes:
        example: The figures.
        right: The right labels in colours; empty for a detection.
        pictures: (caption, value, image, what was seen in it) for each sight; the last is empty for a detection, whose
            boxes are drawn on the image.
    """

    example: Example
    right: str
    pictures: tuple[tuple[str, float | None, str, str], ...]


def shown(run: Run, report: DownstreamReport | None) -> list[Shown]:
    """All examples whose images the store still holds."""
    if report is None:
        return []
    return [
        Shown(
            example,
            _picture(run, example.right),
            tuple((sight.caption, sight.value, *_pictures(run, sight)) for sight in example.sights),
        )
        for example in report.examples
        if all(sight.image and (sight.picture or not example.right) for sight in example.sights)
    ]


def _pictures(run: Run, sight: Sight) -> tuple[str, str]:
    image = decode(run.png(sight.image))
    if sight.picture:
        return data_uri(_enlarged(image)), _picture(run, sight.picture)
    return data_uri(_boxed(image, sight)), ""


def _picture(run: Run, sha256: str) -> str:
    return data_uri(_enlarged(decode(run.png(sha256)))) if sha256 else ""


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, _SIDE // max(image.shape[:2]))
    larger: NDArray[np.uint8] = image.repeat(factor, 0).repeat(factor, 1)
    return larger


def _boxed(image: NDArray[np.uint8], sight: Sight) -> NDArray[np.uint8]:
    """Right boxes in white, found ones in red."""
    larger = _enlarged(image)
    factor = larger.shape[0] // image.shape[0]
    picture = Image.fromarray(larger)
    pen = ImageDraw.Draw(picture)
    for _, x0, y0, x1, y1 in sight.objects:
        pen.rectangle([x0 * factor - 2, y0 * factor - 2, x1 * factor + 1, y1 * factor + 1], outline=_RIGHT)
    for _, x0, y0, x1, y1, score in sight.found:
        if score >= _SHOWN:
            pen.rectangle([x0 * factor, y0 * factor, x1 * factor - 1, y1 * factor - 1], outline=_FOUND, width=2)
    return np.asarray(picture)
