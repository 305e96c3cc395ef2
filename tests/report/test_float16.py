"""What a report says of the values inside a float16 graph."""

from __future__ import annotations

import math

from deploy_robust.gate.probes import PEAK, PEAK_NODE
from deploy_robust.gate.records import CLEAN, Case, Measurement
from deploy_robust.report.float16 import float16_ranges

PLAN = {"literal": {"nodes": ["head", "body", "tail"]}}


def seen(peak: float, node: int, attack: str = CLEAN, level: float = 0.0, pair: str = "a") -> Measurement:
    return Measurement(Case(pair, attack, level), pair, "literal", "8bit", {PEAK: peak, PEAK_NODE: float(node)})


def test_nothing_is_said_of_other_graphs() -> None:
    assert not list(float16_ranges([Measurement(Case("a"), "a", "engine", "8bit", {"psnr": 3.0})], PLAN))


def test_the_largest_value_clean_and_attacked_with_its_node() -> None:
    attacked = [seen(32752.0, 1, "pgd-lmse", 4), seen(9.0, 0, "pgd-lmse", 8)]
    measurements = [seen(655.04, 0), seen(20.0, 1, pair="b"), *attacked]
    (note,) = float16_ranges(measurements, PLAN)
    assert "655 (1 % of 65504, at node 'head') on clean images" in note
    assert "3.275e+04 (50 % of 65504, at node 'body') on attacked images (pgd-lmse at 4/255)" in note


def test_an_overflow_under_attack_alone_is_counted_and_named() -> None:
    measurements = [seen(6e4, 0), seen(5e4, 0, pair="b"), seen(math.inf, 2, "corners", 2), seen(100.0, 0, "corners", 1)]
    (note,) = float16_ranges(measurements, PLAN)
    assert "on 0 of 2 clean images and 1 of 2 attacked images: first at node 'tail' (corners at 2/255)" in note
    assert "hides it" in note
    assert "--keep-fp32" in note
