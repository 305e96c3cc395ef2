"""mIoU: the figures of torchmetrics, and the rules for ignored pixels and absent classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deploy_robust.errors import UsageError
from deploy_robust.metrics.segmentation import IGNORED, Counts, count, iou, mean_iou

CLASSES = 4
SHAPE = (5, 6)
TRUTH = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, IGNORED]))
FOUND = arrays(np.int64, SHAPE, elements=st.integers(0, CLASSES))


@settings(deadline=None)
@given(TRUTH, FOUND)
def test_counts_are_those_of_a_loop_over_pixels(truth: Any, found: Any) -> None:
    hits, right, taken = np.zeros((3, CLASSES), int)
    for t, f in zip(truth.ravel(), found.ravel(), strict=True):
        if t != IGNORED:
            hits[t] += t == f
            right[t] += 1
            if f < CLASSES:
                taken[f] += 1
    counts = count(found, truth, CLASSES)
    assert [c.tolist() for c in counts] == [hits.tolist(), right.tolist(), taken.tolist()]


def test_iou_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_jaccard_index

    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, IGNORED], (40, 50), p=[0.5, 0.3, 0.1, 0.05, 0.05])
    found = np.where(rng.random((40, 50)) < 0.7, np.minimum(truth, 3), rng.integers(0, 4, (40, 50)))
    settings_ = {"num_classes": CLASSES, "ignore_index": IGNORED}
    pair = torch.from_numpy(found), torch.from_numpy(truth)
    counts = count(found, truth, CLASSES)
    assert iou(counts) == pytest.approx(multiclass_jaccard_index(*pair, average=None, **settings_).numpy(), abs=1e-6)
    assert mean_iou(counts) == pytest.approx(float(multiclass_jaccard_index(*pair, **settings_)), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(TRUTH, FOUND, FOUND)
def test_what_is_found_at_ignored_pixels_counts_nowhere(truth: Any, found: Any, other: Any) -> None:
    elsewhere = np.where(truth == IGNORED, other, found)
    assert all(
        np.array_equal(a, b) for a, b in zip(*(count(f, truth, CLASSES) for f in (found, elsewhere)), strict=True)
    )


def test_counts_of_images_add_up_to_those_of_all_of_them_side_by_side() -> None:
    rng = np.random.default_rng(1)
    truth, found = rng.integers(0, CLASSES, (2, 3, 8, 8))
    apart = [count(f, t, CLASSES) for f, t in zip(found, truth, strict=True)]
    together = count(np.hstack(found), np.hstack(truth), CLASSES)
    assert all(
        np.array_equal(sum(parts), whole) for parts, whole in zip(zip(*apart, strict=True), together, strict=True)
    )


def test_a_class_that_is_neither_there_nor_found_does_not_count_in_the_mean() -> None:
    counts = Counts(*np.array([[4, 0, 0], [4, 2, 0], [6, 0, 0]]))
    assert iou(counts)[:2].tolist() == [4 / 6, 0.0]
    assert np.isnan(iou(counts)[2])
    assert mean_iou(counts) == pytest.approx((4 / 6 + 0) / 2)


def test_maps_that_cannot_be_compared_are_refused() -> None:
    truth = np.zeros((4, 4), np.uint8)
    with pytest.raises(UsageError, match="one size"):
        count(np.zeros((4, 5), int), truth, CLASSES)
    with pytest.raises(UsageError, match="predicted classes lie in 0 to 4"):
        count(np.full((4, 4), 5), truth, CLASSES)
