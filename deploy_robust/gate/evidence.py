"""Evidence of images as plain data, and figures over any number of them. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.metrics.detection import Boxes, Matches, Ranking, match
from deploy_robust.metrics.segmentation import Counts, mean_iou

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Corners = Sequence[float]

SEGMENTATION, DETECTION = "segmentation", "detection"
"""Tasks, as evidence is filed."""

PICTURES = ("picture", "right_picture")
"""Keys of a segmentation's evidence that name images: the predicted and the right classes in colours."""

FIGURES = {"miou": SEGMENTATION, "ap": DETECTION, "ap50": DETECTION}
"""Downstream metrics, and the task whose evidence each is made of."""


def counts_of(counts: Counts) -> dict[str, Any]:
    """Evidence of a segmentation: pixels by class."""
    return {name: part.tolist() for name, part in counts._asdict().items()}


def detected(
    corners: Sequence[Corners], scores: Sequence[float], objects: Sequence[Corners], crowds: Sequence[Corners]
) -> dict[str, Any]:
    """Evidence of a detection of one class: boxes to a hundredth of a pixel with scores, and the right ones."""
    return {
        "found": [[*(round(x, 2) for x in four), round(score, 4)] for four, score in zip(corners, scores, strict=True)],
        "objects": [list(four) for four in objects],
        "crowds": [list(four) for four in crowds],
    }


def image_figures(evidence: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one image alone; those that are not defined on it are left out."""
    values = {}
    for metric, task in FIGURES.items():
        if task in evidence:
            (value,) = over(metric, [evidence[task]])(np.ones((1, 1)))
            if np.isfinite(value):
                values[metric] = float(value)
    return values


def severity(metric: str, evidence: Mapping[str, Any]) -> float:
    """What images without a figure are ordered by, the lower the worse: on one without objects, the surest alarm."""
    if FIGURES[metric] != DETECTION:
        return 0.0
    return -max((row[4] for found in evidence.values() for row in found["found"]), default=0.0)


def over(metric: str, images: Sequence[Mapping[str, Any]]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A figure over images taken together, as a function of how often each counts.

    Args:
        metric: One of `FIGURES`.
        images: Evidence of its task, one for each image.

    Returns:
        Of weights (sets, images), the figure of each set, (sets,); NaN where it is not defined.
    """
    return _miou(images) if metric == "miou" else _ap(images, only=1 if metric == "ap50" else None)


def class_ious(images: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """IoU of each class over images taken together, (K,); NaN for classes that are neither there nor found."""
    from deploy_robust.metrics.segmentation import iou

    return iou(Counts(*(np.sum([image[part] for image in images], axis=0) for part in Counts._fields)))


def _miou(
    images: Sequence[Mapping[str, Any]],
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    table = np.array([[image[part] for part in Counts._fields] for image in images], np.float64)  # (images, 3, K)

    def figure(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.einsum("si,ick->csk", weights, table)
        return np.array([mean_iou(Counts(*part)) for part in sums.transpose(1, 0, 2)])

    return figure


def _ap(images: Sequence[Mapping[str, Any]], only: int | None) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    classes = dict.fromkeys(name for image in images for name in image)
    rankings = [Ranking([_matched(image.get(name)) for image in images]) for name in classes]

    def figure(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.full(len(weights), np.nan)
        for row, weight in enumerate(weights):
            found = [ranking.precision(weight)[:only].mean() for ranking in rankings]
            there = [value for value in found if np.isfinite(value)]
            if there:  # COCO's mean is over the classes of which there is an object
                values[row] = sum(there) / len(there)
        return values

    return figure


def _matched(found: Mapping[str, Any] | None) -> Matches:
    if found is None:
        return match(Boxes.of([]), Boxes.of([]))
    objects, crowds = found["objects"], found["crowds"]
    rows = np.array(found["found"], np.float64).reshape(-1, 5)
    truth = Boxes.of([*objects, *crowds], crowd=[False] * len(objects) + [True] * len(crowds))
    return match(Boxes.of(rows[:, :4], rows[:, 4].tolist()), truth)
