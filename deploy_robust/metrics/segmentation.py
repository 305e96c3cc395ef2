"""Intersection over union of label maps: counts of one image, and the figure over any number of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = 255
"""Class index of pixels that no metric counts."""


class Counts(NamedTuple):
    """Pixels by class, (K,) int64 each; counts of several images add up.

    Attributes:
        hits: Pixels of the class that were found.
        truth: Pixels of the class in the ground truth.
        found: Pixels that were taken for the class; pixels that are ignored in the ground truth count nowhere.
    """

    hits: NDArray[np.int64]
    truth: NDArray[np.int64]
    found: NDArray[np.int64]


def count(found: NDArray[Any], truth: NDArray[Any], classes: int, *, ignored: int = IGNORED) -> Counts:
    """Compares two label maps of one image; the contingency table is scikit-image's.

    Args:
        found: Predicted class of each pixel, (H, W) integers in [0, classes], `classes` standing for none of them.
        truth: Right class of each pixel, (H, W) integers in [0, classes), or `ignored`.
        classes: K.
        ignored: Pixels with this index in `truth` are not counted.

    Raises:
        UsageError: The shapes differ, or an index is out of range.
    """
    from skimage.metrics import contingency_table

    if found.shape != truth.shape:
        raise UsageError(f"label maps of one image have one size (got {found.shape} and {truth.shape})")
    counted = truth != ignored
    for name, labels, most in (("predicted", found, classes), ("right", truth[counted], classes - 1)):
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= most:
            raise UsageError(
                f"{name} classes lie in 0 to {most} (got {labels.min()} to {labels.max()}): check the class map"
            )
    # One pixel in the last cell gives the table its full size.
    right, taken = (np.append(labels.ravel(), classes).astype(np.int64) for labels in (truth, found))
    table = np.asarray(contingency_table(right, taken, ignore_labels=[ignored]).todense())
    table = table[:classes, : classes + 1].astype(np.int64)
    return Counts(np.diagonal(table).copy(), table.sum(1), table.sum(0)[:classes])


def iou(counts: Counts) -> NDArray[np.float64]:
    """``hits / (truth + found - hits)`` of each class, (K,); NaN for a class that is neither there nor found."""
    union = counts.truth + counts.found - counts.hits
    with np.errstate(invalid="ignore"):
        return counts.hits / np.where(union > 0, union, np.nan)


def mean_iou(counts: Counts) -> float:
    """mIoU: the mean of `iou` over the classes that are there or found; NaN where none is (PASCAL VOC, Cityscapes)."""
    values = iou(counts)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
