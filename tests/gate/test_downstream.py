"""Figures over a set, from the evidence of images: which attack counts, what pools, what a policy may ask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy_robust.errors import PolicyError
from deploy_robust.gate.dump import _plain
from deploy_robust.gate.evidence import FIGURES, counts_of, detected, image_figures, over
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.quantities import QUANTITIES
from deploy_robust.gate.records import Case, Measurement, Requirement, Status
from deploy_robust.gate.rows import from_row, to_row
from deploy_robust.metrics.detection import Boxes, average_precision, match
from deploy_robust.metrics.segmentation import Counts, count, mean_iou

if TYPE_CHECKING:
    from pathlib import Path

TRUTH = np.random.default_rng(0).integers(0, 3, (6, 8, 8))


def segmented(truth: Any, wrong: float, seed: int = 0) -> dict[str, Any]:
    """Evidence of a map that is wrong on a share of the pixels."""
    rng = np.random.default_rng(seed)
    found = np.where(rng.random(truth.shape) < wrong, (truth + 1) % 3, truth)
    return {"segmentation": counts_of(count(found, truth, 3))}


def boxes(found: list[list[float]], objects: list[list[float]]) -> dict[str, Any]:
    """Evidence of persons: [x0, y0, x1, y1, score], and the right boxes."""
    return {"detection": {"person": detected([f[:4] for f in found], [f[4] for f in found], objects, [])}}


def measured(pair: str, evidence: dict[str, Any], attack: str = "clean", level: float = 0.0) -> Measurement:
    values = image_figures(evidence)
    return Measurement(Case(pair, attack, level), pair, "engine", "8bit", values=values, evidence=evidence)


def asked(quantity: str, statistic: Any = "dataset", *, level: float | None = None, **bounds: float) -> Requirement:
    return Requirement("line", quantity, statistic, () if level is None else (level,), **bounds)


def test_miou_over_images_is_that_of_their_counts_added() -> None:
    evidence = [segmented(truth, 0.3, seed)["segmentation"] for seed, truth in enumerate(TRUTH)]
    weights = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 0, 1, 0, 3]], float)
    by_hand = [
        mean_iou(
            Counts(
                *(
                    np.sum([w * np.array(e[part]) for w, e in zip(row, evidence, strict=True)], 0)
                    for part in Counts._fields
                )
            )
        )
        for row in weights
    ]
    assert over("miou", evidence)(weights) == pytest.approx(by_hand)


def test_ap_over_images_is_that_of_their_matches_together() -> None:
    images = [
        ([[0, 0, 10, 20, 0.9]], [[0, 0, 10, 20], [30, 0, 40, 20]]),
        ([[5, 5, 9, 9, 0.7], [0, 0, 10, 18, 0.6]], [[0, 0, 10, 20]]),
        ([[5, 5, 9, 9, 0.8]], []),
    ]
    evidence = [boxes(found, objects)["detection"] for found, objects in images]
    matches = [match(Boxes.of([f[:4] for f in found], [f[4] for f in found]), Boxes.of(o)) for found, o in images]
    weights = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]])
    for row, weight in enumerate(weights):
        values = average_precision(matches, weight)
        assert over("ap", evidence)(weights)[row] == pytest.approx(values.mean())
        assert over("ap50", evidence)(weights)[row] == pytest.approx(values[0])


def test_images_without_objects_have_no_ap_of_their_own() -> None:
    assert image_figures(boxes([[0, 0, 9, 9, 0.9]], [])) == {}
    assert image_figures(boxes([[0, 0, 9, 9, 0.9]], [[0, 0, 9, 9]])) == {"ap": 1.0, "ap50": 1.0}


def test_each_image_counts_under_the_attack_that_is_worst_for_it() -> None:
    shares = {"a": (0.1, 0.5), "b": (0.6, 0.2), "c": (0.3, 0.3)}
    measurements, worst = [], []
    for number, (pair, (first, second)) in enumerate(shares.items()):
        found = {name: segmented(TRUTH[number], share) for name, share in (("one", first), ("two", second))}
        measurements += [measured(pair, each, name, 4.0) for name, each in found.items()]
        worst.append(min(found.values(), key=lambda each: image_figures(each)["miou"])["segmentation"])
    (outcome,) = judge([asked("attacked-miou", level=4.0, at_least=0.1)], measurements, Terms(("one", "two"))).outcomes
    assert outcome.value == pytest.approx(float(over("miou", worst)(np.ones((1, 3)))[0]))
    assert outcome.low < outcome.value < outcome.high
    assert outcome.status is Status.PASS
    assert outcome.pairs == 3
    assert outcome.worst == Case("b", "one", 4.0)


def test_a_false_alarm_on_an_image_without_objects_counts_under_the_attack_that_raises_the_surest() -> None:
    right = boxes([[0, 0, 10, 10, 0.5]], [[0, 0, 10, 10]])
    measurements = [
        *(measured("full", right, attack, 2.0) for attack in ("one", "two")),
        measured("empty", boxes([[0, 0, 9, 9, 0.4]], []), "one", 2.0),
        measured("empty", boxes([[0, 0, 9, 9, 0.9]], []), "two", 2.0),
    ]
    (outcome,) = judge([asked("attacked-ap50", level=2.0, at_least=0.9)], measurements, Terms(("one", "two"))).outcomes
    assert outcome.value == pytest.approx(0.5)  # the alarm at 0.9 ranks above the one right box
    assert outcome.worst == Case("full", "one", 2.0)  # the other image has no figure of its own


def test_a_drop_is_the_clean_figure_minus_the_attacked_one_on_the_same_images() -> None:
    measurements = []
    for pair, truth in zip("abcdef", TRUTH, strict=True):
        measurements += [measured(pair, segmented(truth, 0.1)), measured(pair, segmented(truth, 0.6), "one", 4.0)]
    figure = {
        name: judge([asked(name, level=level, at_most=1.0)], measurements, Terms(("one",))).outcomes[0].value
        for name, level in (("clean-miou", None), ("attacked-miou", 4.0), ("miou-drop", 4.0))
    }
    assert figure["miou-drop"] == pytest.approx(figure["clean-miou"] - figure["attacked-miou"])
    (mean,) = judge([asked("miou-drop", "mean", level=4.0, at_most=1.0)], measurements, Terms(("one",))).outcomes
    assert mean.value == pytest.approx(
        np.mean([image_figures(segmented(t, 0.1))["miou"] - image_figures(segmented(t, 0.6))["miou"] for t in TRUTH])
    )


def test_lpips_counts_at_its_highest() -> None:
    case = [
        Measurement(Case("a", name, 4.0), "a", "engine", "8bit", {"lpips": v}) for name, v in (("x", 0.1), ("y", 0.4))
    ]
    (outcome,) = judge([asked("attacked-lpips", "max", level=4.0, at_most=0.2)], case, Terms(("x", "y"))).outcomes
    assert (outcome.value, outcome.status) == (0.4, Status.FAIL)


def test_what_was_not_seen_or_is_not_defined_stays_open() -> None:
    unseen = [Measurement(Case("a"), "a", "engine", "8bit")]
    (outcome,) = judge([asked("clean-miou", at_least=0.5)], unseen, Terms(())).outcomes
    assert (outcome.status, outcome.reason) == (Status.INCONCLUSIVE, "nothing was measured for it")
    empty = [measured(pair, boxes([], [])) for pair in "ab"]
    (outcome,) = judge([asked("clean-ap", at_least=0.5)], empty, Terms(())).outcomes
    assert outcome.status is Status.INCONCLUSIVE
    assert "nothing to find" in outcome.reason


def test_pairs_that_lack_an_attack_do_not_enter_and_defects_count_for_others() -> None:
    measurements = [measured("a", segmented(TRUTH[0], 0.2), "one", 4.0)]
    line = asked("attacked-miou", level=4.0, at_least=0.1)
    assert judge([line], measurements, Terms(("one", "two"))).outcomes[0].pairs == 0
    from deploy_robust.gate.records import Defect

    measurements.append(Measurement(Case("a", "two", 4.0), "a", "engine", "8bit", defect=Defect("nan", "")))
    assert judge([line], measurements, Terms(("one", "two"))).outcomes[0].pairs == 1


def test_evidence_survives_the_store_and_stands_in_the_dump() -> None:
    m = measured("a", {**segmented(TRUTH[0], 0.2), **boxes([[0, 0, 9, 9, 0.5]], [[1, 1, 9, 9]])})
    row = to_row(3, m)
    assert from_row(row[1:]) == m
    assert "evidence" in _plain(m)
    plain = Measurement(Case("a"), "a", "engine", "8bit", {"psnr": float("inf")})
    assert from_row(to_row(3, plain)[1:]) == plain
    assert "evidence" not in _plain(plain)  # dumps of runs without downstream networks stay as they were
    json.dumps(_plain(m), allow_nan=False)


LINE = '[[requirement]]\nname = "seen"\nquantity = "{quantity}"\nstatistic = "{statistic}"\nat_least = 0.3\n'


def test_policies_may_ask_for_a_dataset_figure_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text("schema = 1\n" + LINE.format(quantity="clean-miou", statistic="dataset"))
    assert load_policy(path).needs == ("segmentation",)
    path.write_text("schema = 1\n" + LINE.format(quantity="clean-psnr", statistic="dataset"))
    with pytest.raises(PolicyError, match=r"line 3: .*no clean-psnr over a dataset.*clean-miou"):
        load_policy(path)
    assert load_policy("default").needs == ()


def test_every_figure_has_its_three_quantities() -> None:
    for metric, task in FIGURES.items():
        for name in (f"clean-{metric}", f"attacked-{metric}", f"{metric}-drop"):
            assert QUANTITIES[name].needs == task
            assert QUANTITIES[name].pooled is not None


def test_an_open_figure_over_a_set_asks_for_more_scenes() -> None:
    from deploy_robust.report.explain import Explainer

    measurements = [
        measured(pair, segmented(truth, 0.4, n)) for n, (pair, truth) in enumerate(zip("abcdef", TRUTH, strict=True))
    ]
    value = judge([asked("clean-miou", at_least=0.0)], measurements, Terms(())).outcomes[0].value
    (outcome,) = judge([asked("clean-miou", at_least=value - 0.005)], measurements, Terms(())).outcomes
    assert outcome.status is Status.INCONCLUSIVE
    found = Explainer({}, measurements).explain(outcome)
    assert found is not None
    assert "scenes would decide it" in found.short  # and nothing of outputs of 8 bits
