"""What outputs of 8 bits say of the unrounded ones: bounds that hold for certain, and verdicts that follow them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.parity import compare_rounded
from deploy_robust.gate.records import Case, Measurement, Requirement, Status


def decibels(apart: np.ndarray) -> float:
    error = float(np.mean(np.square(apart)))
    return math.inf if error == 0 else -10 * math.log10(error)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), spread=st.floats(-6, -0.3), beyond=st.booleans())
def test_the_unrounded_figure_lies_between_the_ends(seed: int, spread: float, beyond: bool) -> None:
    """Whatever the engine computed before it rounded, the bounds hold what NumPy makes of the unrounded output."""
    draw = np.random.default_rng(seed)
    reference = draw.uniform(-0.2, 1.2, (1, 3, 33, 35)) if beyond else draw.uniform(0, 1, (1, 3, 33, 35))
    exact = reference + draw.normal(0, 10**spread, reference.shape)
    recorded = np.rint(exact.clip(0, 1) * 255) / 255
    (found,) = compare_rounded(torch.from_numpy(reference), torch.from_numpy(recorded))
    apart = np.abs(exact.clip(0, 1) - reference.clip(0, 1))
    assert found.at_worst.psnr_db - 1e-9 <= decibels(apart) <= found.at_best.psnr_db + 1e-9
    assert found.at_best.max_abs - 1e-12 <= apart.max() <= found.at_worst.max_abs + 1e-12
    assert found.at_worst.psnr_db <= found.seen.psnr_db <= found.at_best.psnr_db


def test_rounding_alone_makes_58_9_decibels_and_hides_any_higher_parity() -> None:
    reference = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (1, 3, 256, 256)))
    (found,) = compare_rounded(reference, (reference * 255).round() / 255)
    assert found.seen.psnr_db == pytest.approx(20 * math.log10(255) + 10 * math.log10(12), abs=0.05)
    assert found.at_best.psnr_db == math.inf
    assert found.at_worst.psnr_db == pytest.approx(50.5, abs=0.1)


LINE = Requirement("parity", "conversion", "min", at_least=50.0)


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(50.2, 70.0, Status.PASS), (40.0, 49.9, Status.FAIL), (49.0, 51.0, Status.INCONCLUSIVE)],
)
def test_the_judge_decides_by_both_ends(low: float, high: float, status: Status) -> None:
    values = {"conversion_db": (low + high) / 2, "conversion_db_low": low, "conversion_db_high": high}
    good = {"conversion_db": 60.0, "conversion_db_low": 55.0, "conversion_db_high": 80.0}
    measurements = [Measurement(Case(f"p{i}"), f"p{i}", "engine", "8bit", v) for i, v in enumerate((good, values))]
    (outcome,) = judge([LINE], measurements, Terms(())).outcomes
    assert outcome.status is status
    assert (outcome.low, outcome.high) == (low, high)
    assert ("8 bits" in outcome.reason) == (status is Status.INCONCLUSIVE)
