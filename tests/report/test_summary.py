"""What a summary says of a run whose figures are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from deploy_robust.gate.records import Case, Status
from deploy_robust.report.strips import choose
from deploy_robust.report.summary import summarise

if TYPE_CHECKING:
    from pathlib import Path


def test_it_counts_and_orders_what_was_measured(tmp_path: Path, fake) -> None:
    summary = summarise(*fake().write(tmp_path))
    assert (summary.pairs, summary.scenes) == (24, 24)
    assert summary.levels == (1.0, 2.0, 4.0, 8.0)
    assert summary.roles == ("engine", "source")
    assert summary.rain["psnr"].mean == pytest.approx(18.0)
    assert len(summary.cases) == 24 * 3 * 4 + 6  # the guard sees six pairs at one epsilon
    drops = [row.drop for row in summary.cases]
    assert drops == sorted(drops, reverse=True)
    assert (summary.cases[0].case.attack, summary.cases[0].case.level) == ("pgd-lmse", 8.0)
    assert len(summary.transfer) == 24 * 4
    assert {round(item.gap, 6) for item in summary.transfer} == {-0.1}
    assert summary.notes == ("images were padded",)
    assert "notes" not in summary.provenance


def test_curves_begin_clean_and_their_mean_adversarial_performance_is_that_of_the_paper(tmp_path: Path, fake) -> None:
    summary = summarise(*fake().write(tmp_path))
    curve = summary.curve("engine", "pgd-lmse", "psnr")
    assert curve is not None
    assert [point.level for point in curve.points] == [0.0, 1.0, 2.0, 4.0, 8.0]
    expected = [25.0, *(24.0 - 0.4 * level - 0.1 for level in (1, 2, 4, 8))]
    wobble = sum(0.02 * (i % 5 - 2) for i in range(24)) / 24
    assert [point.mean for point in curve.points] == pytest.approx([value + wobble for value in expected])
    assert curve.mean_adversarial == pytest.approx(sum(expected[1:]) / 4 + wobble)
    assert all(p.minimum <= p.q10 <= p.q25 <= p.median <= p.q75 <= p.q90 <= p.maximum for p in curve.points)
    drop = summary.curve("engine", "pgd-lmse", "drop")
    assert drop is not None
    assert [point.mean for point in drop.points] == pytest.approx([25 - value for value in expected[1:]])


def test_identical_images_are_counted_and_stay_finite(tmp_path: Path, fake) -> None:
    store, verdict = fake(clean={"engine": math.inf, "source": 25.0}, conversion=math.inf).write(tmp_path)
    summary = summarise(store, verdict)
    curve = summary.curve("engine", "uniform", "psnr")
    assert curve is not None
    assert (curve.points[0].identical, curve.points[0].mean) == (24, 100.0)
    parity = next(row for row in summary.outcomes if row.requirement == "parity")
    assert parity.status is Status.PASS
    assert parity.identical
    assert parity.value is None


def test_defects_are_listed_with_their_image_and_are_no_worst_case(tmp_path: Path, fake) -> None:
    case = Case("pair-03", "pgd-lmse", 8.0)
    store, verdict = fake(defects=(case,)).write(tmp_path)
    summary = summarise(store, verdict)
    assert summary.status is Status.FAIL
    (defect,) = summary.defects
    assert (defect.kind, defect.case.pair, defect.role) == ("nan", "pair-03", "engine")
    assert store.image(defect.image).shape == (32, 40, 3)
    assert ("pair-03", 8.0) not in {(r.case.pair, r.case.level) for r in summary.cases if r.case.attack == "pgd-lmse"}


def test_the_strips_hold_the_worst_of_all_and_of_every_attack_and_epsilon(tmp_path: Path, fake) -> None:
    summary = summarise(*fake().write(tmp_path))
    chosen = choose(summary.cases)
    assert len(chosen) == 24
    ranks = [rank for rank, _ in chosen]
    assert ranks[0] == 1
    assert ranks == sorted(set(ranks))
    assert (
        len({(row.case.attack, row.case.level) for _, row in chosen}) == 13
    )  # three attacks at four epsilons, and the guard at one
    assert all(summary.cases[rank - 1] is row for rank, row in chosen)


def test_a_run_that_measured_nothing_can_be_summarised(tmp_path: Path, fake) -> None:
    summary = summarise(*fake(pairs=[]).write(tmp_path))
    assert summary.status is Status.INCONCLUSIVE
    assert summary.cases == ()
    assert all(row.explanation is not None and row.explanation.cause == "evidence" for row in summary.outcomes)
