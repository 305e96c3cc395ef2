"""AP: the figures of pycocotools over whole sets, and those of sets in which images are repeated."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from deploy_robust.errors import UsageError
from deploy_robust.metrics.detection import THRESHOLDS, Boxes, Matches, average_precision, match


def random_scene(rng: np.random.Generator) -> tuple[Boxes, Boxes]:
    """(found, truth): shaken copies of most objects, some of them twice, and inventions."""
    count = int(rng.integers(0, 6))
    corner = rng.uniform(0, 80, (count, 2))
    truth = np.hstack([corner, corner + rng.uniform(4, 30, (count, 2))])
    shaken = truth[rng.random(count) < 0.8]
    shaken = np.vstack([shaken + rng.normal(0, 1.0, shaken.shape), shaken[:1] + 0.5])
    invented = rng.uniform(0, 80, (int(rng.integers(0, 4)), 2))
    found = np.vstack([shaken, np.hstack([invented, invented + 10])])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    return (
        Boxes.of(found, rng.random(len(found)).round(2).tolist()),
        Boxes.of(truth, crowd=(rng.random(count) < 0.2).tolist()),
    )


def by_pycocotools(scenes: list[tuple[Boxes, Boxes]]) -> tuple[float, float]:
    """AP and AP50 of all scenes at once, as the tool itself sums them up."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    tables: list[Any] = []
    with contextlib.redirect_stdout(io.StringIO()):
        for side in (1, 0):
            entries = []
            for image, scene in enumerate(scenes):
                for box, score, crowd in zip(scene[side].corners, scene[side].scores, scene[side].crowd, strict=True):
                    size = box[2:] - box[:2]
                    entries.append(
                        {
                            "id": len(entries) + 1,
                            "image_id": image,
                            "category_id": 1,
                            "bbox": [*box[:2], *size],
                            "area": float(size.prod()),
                            "score": float(score),
                            "iscrowd": int(crowd),
                        }
                    )
            table = COCO()
            table.dataset = {
                "images": [{"id": n} for n in range(len(scenes))],
                "categories": [{"id": 1}],
                "annotations": entries,
            }
            table.createIndex()
            tables.append(table)
        judge = COCOeval(*tables, iouType="bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


@pytest.mark.parametrize("seed", range(6))
def test_ap_over_a_set_is_that_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(8)]
    values = average_precision([match(*scene) for scene in scenes])
    assert (values.mean(), values[0]) == pytest.approx(by_pycocotools(scenes), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_stands_for_so_many_copies_of_an_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matches = [match(*random_scene(rng)) for _ in range(6)]
    weights = rng.multinomial(6, [1 / 6] * 6)
    copies = [m for m, weight in zip(matches, weights, strict=True) for _ in range(weight)]
    assert average_precision(matches, weights) == pytest.approx(average_precision(copies), abs=1e-9)


def test_by_hand() -> None:
    """Two objects: the surest detection is right up to an overlap of 0.7, the next is wrong, the last one exact."""
    truth = Boxes.of([[0, 0, 10, 10], [50, 50, 60, 60]])
    found = Boxes.of([[0, 0, 10, 7], [20, 20, 30, 30], [50, 50, 60, 60]], [0.9, 0.8, 0.7])
    values = average_precision([match(found, truth)])
    # Recall up to 1/2 at precision 1, from there to 1 at 2/3; above 0.7 the surest one is wrong, too.
    assert values[:5] == pytest.approx([(51 + 50 * 2 / 3) / 101] * 5)
    assert values[5:] == pytest.approx([51 * (1 / 3) / 101] * 5)
    assert THRESHOLDS[4] == 0.7


def test_nothing_found_is_zero_and_nothing_to_find_is_nan() -> None:
    nothing, something = Boxes.of([]), Boxes.of([[0, 0, 10, 10]])
    assert average_precision([match(nothing, something)]) == pytest.approx([0.0] * 10)
    assert np.isnan(average_precision([match(something, nothing)])).all()
    assert np.isnan(average_precision([])).all()


def test_a_false_alarm_on_an_empty_image_costs_precision() -> None:
    right = match(Boxes.of([[0, 0, 10, 10]], [0.5]), Boxes.of([[0, 0, 10, 10]]))
    alarm = match(Boxes.of([[0, 0, 10, 10]], [0.9]), Boxes.of([]))
    assert average_precision([right])[0] == pytest.approx(1.0)
    assert average_precision([right, alarm])[0] == pytest.approx(0.5)
    assert isinstance(alarm, Matches)
    assert alarm.objects == 0


def test_boxes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="left upper"):
        Boxes.of([[5, 0, 1, 9]])
    with pytest.raises(UsageError, match="1 boxes have 2 scores"):
        Boxes.of([[0, 0, 1, 1]], [0.1, 0.2])
