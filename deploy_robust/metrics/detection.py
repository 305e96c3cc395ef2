"""Average precision of detections: matches within one image, and the figure over any number of images.

Matching is that of pycocotools. Boxes of different images never meet, so that an image is matched once and the
precision over any choice of images, as a bootstrap draws them, is a weighted sum over what was stored.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps at which a detection counts as right (COCO); the first is that of AP50."""

MOST = 100
"""Detections of an image that count, from the highest score on (COCO)."""

_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Objects of one class in one image.

    Attributes:
        corners: (n, 4) float: x0, y0, x1, y1 in pixels, right and lower ends exclusive.
        scores: (n,) float, higher is surer; ones for ground truth.
        crowd: (n,) bool: the box holds a crowd, in which any number of detections is neither right nor wrong.
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @classmethod
    def of(cls, corners: Any, scores: Sequence[float] | None = None, crowd: Sequence[bool] | None = None) -> Boxes:
        """From anything that numpy reads.

        Raises:
            UsageError: The lengths differ, or a box is inside out.
        """
        boxes = np.asarray(corners, np.float64).reshape(-1, 4)
        found = cls(
            boxes,
            np.ones(len(boxes)) if scores is None else np.asarray(scores, np.float64),
            np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool),
        )
        if not len(found.corners) == len(found.scores) == len(found.crowd):
            raise UsageError(f"{len(boxes)} boxes have {len(found.scores)} scores and {len(found.crowd)} crowd flags")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise UsageError("a box runs from its left upper to its right lower corner: x0, y0, x1, y1")
        return found

    def __len__(self) -> int:
        return len(self.corners)


@dataclass(frozen=True, slots=True)
class Matches:
    """What the detections of one image came to.

    Attributes:
        scores: (n,) float, descending.
        right: (10, n) bool, at each of `THRESHOLDS`.
        counted: (10, n) bool: False for detections inside a crowd.
        objects: How many objects there are to find, crowds apart.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    objects: int


def match(found: Boxes, truth: Boxes) -> Matches:
    """Matches the detections of one image with its objects, the surest first, by pycocotools' COCOeval."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def described(boxes: Boxes) -> list[dict[str, Any]]:
        sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
        return [
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "bbox": [*map(float, corners[:2]), *map(float, size)],
                "area": float(size.prod()),
                "score": float(score),
                "iscrowd": int(crowd),
            }
            for number, (corners, size, score, crowd) in enumerate(
                zip(boxes.corners, sizes, boxes.scores, boxes.crowd, strict=True), start=1
            )
        ]

    tables = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        for boxes in (truth, found):
            table = COCO()
            table.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": described(boxes)}
            table.createIndex()
            tables.append(table)
        judge = COCOeval(*tables, iouType="bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        judge.params.maxDets = [MOST]
        judge.params.iouThrs = np.array(THRESHOLDS)
        judge.evaluate()
    (image,) = judge.evalImgs
    if image is None:
        empty = np.zeros((len(THRESHOLDS), 0), bool)
        return Matches(np.zeros(0), empty, empty, 0)
    return Matches(
        np.array(image["dtScores"], np.float64),
        image["dtMatches"] > 0,
        ~image["dtIgnore"].astype(bool),
        int(np.count_nonzero(image["gtIgnore"] == 0)),
    )


class Ranking:
    """The detections of several images, ranked together once, for precision over any choice of those images.

    Args:
        images: The images.
    """

    def __init__(self, images: Sequence[Matches]) -> None:
        self._objects = np.array([image.objects for image in images], np.float64)
        scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
        order = np.argsort(-scores, kind="stable")
        empty = np.zeros((len(THRESHOLDS), 0), bool)
        self._owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])[order]
        self._counted = np.concatenate([empty, *(image.counted for image in images)], 1)[:, order]
        right = np.concatenate([empty, *(image.right for image in images)], 1)[:, order]
        self._right = right & self._counted

    def precision(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Average precision at each of `THRESHOLDS`, (10,); NaN where there is nothing to find.

        Args:
            weights: How often each image counts, (images,).
        """
        objects = float(self._objects @ weights)
        if objects == 0:
            return np.full(len(THRESHOLDS), np.nan)
        share = np.asarray(weights, np.float64)[self._owner]
        hits, seen = (self._right * share).cumsum(1), (self._counted * share).cumsum(1)
        precision = hits / np.maximum(seen, np.spacing(1.0))
        # From here on only the best precision at this recall or a higher one counts.
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        values = np.zeros(len(THRESHOLDS))
        for row, (recall, best) in enumerate(zip(hits / objects, precision, strict=True)):
            at = np.searchsorted(recall, _RECALLS, side="left")
            values[row] = np.append(best, 0.0)[at].mean()
        return values


def average_precision(images: Sequence[Matches], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Precision interpolated at 101 recalls and averaged, over images taken together (COCO's accumulation).

    Args:
        images: The images.
        weights: How often each image counts, (len(images),); None counts each once. A bootstrap's draw.

    Returns:
        (10,), one for each of `THRESHOLDS`; NaN where there is nothing to find. The first is AP50, their mean AP.
    """
    return Ranking(images).precision(np.ones(len(images)) if weights is None else weights)
