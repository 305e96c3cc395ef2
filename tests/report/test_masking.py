"""The alarm for masked gradients: raised where it should be, silent elsewhere, and right about who is to blame."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import ttest_rel

from deploy_robust.gate.records import CLEAN, Case, Measurement
from deploy_robust.report.masking import masking

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FACT = {"search": {"queries": 100.0}, "pgd": {"dead_start": 0.0}, "pgd-adaptive": {"dead_start": 0.0}, "corners": {}}


def measured(
    psnr: Mapping[str, Sequence[float]], *, metric: str = "psnr", level: float = 1.0, per_scene: int = 1
) -> list[Measurement]:
    """Attack to the PSNR of the engine's output on each pair; white-box facts stand beside the source, as they do."""
    found = []
    for attack, values in psnr.items():
        for i, value in enumerate(values):
            case, scene = Case(f"p{i}", attack, level), f"s{i // per_scene}"
            crafted_on_source = "dead_start" in FACT[attack]
            facts = {} if crafted_on_source else FACT[attack]
            found.append(Measurement(case, scene, "engine", "8bit", {metric: value, **facts}))
            found.append(Measurement(case, scene, "engine", "float", {metric: 0.0}))
            if crafted_on_source:
                found.append(Measurement(case, scene, "source", "8bit", {metric: 5.0, **FACT[attack]}))
    for i in range(len(next(iter(psnr.values())))):
        found.append(Measurement(Case(f"p{i}", CLEAN), f"s{i // per_scene}", "engine", "8bit", {"psnr": 30.0}))
    return found


def test_a_stronger_search_raises_it_and_says_by_how_much() -> None:
    (note,) = masking(measured({"search": [14.0, 14.5, 13.5, 14.0], "pgd": [16.0, 16.4, 15.6, 16.0]}))
    assert "1/255" in note
    assert "2.00\N{NO-BREAK SPACE}dB [1.87, 2.13] more" in note
    assert "weak surrogate of this engine, or the engine masks" in note


def test_the_own_graph_tells_who_is_to_blame() -> None:
    surrogate = {"search": [14.0, 14.5, 13.5], "pgd": [16.0, 16.4, 15.6], "pgd-adaptive": [12.0, 12.0, 12.0]}
    (note,) = masking(measured(surrogate))
    assert "attack on the engine's own graph finds as much" in note
    (note,) = masking(measured(surrogate | {"pgd-adaptive": [15.0, 15.6, 14.4]}))
    assert "the engine masks its gradients" in note


@pytest.mark.parametrize(
    "psnr",
    [
        {"search": [16.0, 16.0, 16.1], "pgd": [14.0, 14.1, 14.2]},  # gradients win
        {"search": [10.0, 16.0, 22.0], "pgd": [14.0, 15.0, 20.5]},  # nobody wins for certain
        {"search": [10.0], "pgd": [20.0]},  # one scene proves nothing
        {"search": [10.0, 10.1, 10.2]},  # nothing to compare with
        {"corners": [10.0, 10.1, 10.2], "pgd": [20.0, 20.1, 20.3]},  # noise is no search
    ],
)
def test_it_is_silent_without_evidence(psnr: dict[str, list[float]]) -> None:
    assert not list(masking(measured(psnr)))


def test_frames_of_one_scene_are_one_draw() -> None:
    psnr = {"search": [14.0, 14.1, 14.2, 14.3], "pgd": [16.0, 16.2, 16.1, 16.4]}
    assert list(masking(measured(psnr)))
    assert not list(masking(measured(psnr, per_scene=4)))


def test_without_truth_the_drift_decides() -> None:
    psnr = {"search": [14.0, 14.5, 13.5], "pgd": [16.0, 16.4, 15.6]}
    found = [m for m in measured(psnr, metric="drift") if m.case.attack != CLEAN]
    assert len(list(masking(found))) == 1


def test_it_is_raised_exactly_where_a_paired_t_test_is_significant() -> None:
    rng = np.random.default_rng(0)
    raised = set()
    for shift, n in itertools.product((0.0, 0.3, 0.6, 1.0), (3, 8)):
        for _ in range(10):
            pgd = rng.normal(16, 2, n)
            search = pgd - rng.normal(shift, 0.7, n)
            test = ttest_rel(pgd, search)
            expected = test.statistic > 0 and test.pvalue < 0.05
            assert bool(list(masking(measured({"search": list(search), "pgd": list(pgd)})))) == expected
            raised.add(bool(expected))
    assert raised == {True, False}
