"""LPIPS as a metric: without its trunk it is an error that says what to do; with it, the distances that are known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from deploy_robust.errors import EnvironmentProblem
from deploy_robust.metrics.lpips import lpips_of
from deploy_robust.metrics.registry import METRICS, OPTIONAL
from deploy_robust.models.perceptual import VARIABLE

DATA = Path(os.environ.get("DEPLOY_ROBUST_DATA", "none"))


def test_it_is_measured_only_where_it_is_asked_for() -> None:
    assert "lpips" in OPTIONAL
    assert "lpips" not in METRICS


def test_without_a_trunk_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="nothing is downloaded"):
        lpips_of("squeeze")


@pytest.mark.skipif(not (DATA / "lpips").is_dir(), reason="needs DEPLOY_ROBUST_DATA")
def test_distances_are_those_known_of_a_real_pair() -> None:
    from deploy_robust.data.images import read_image
    from deploy_robust.training.crops import to_tensor

    rainy, clean = (
        to_tensor(read_image(DATA / "rain100h" / kind / "norain-5.png")[None]) for kind in ("rain", "norain")
    )
    distance = lpips_of("alex", str(DATA / "lpips"))
    assert float(distance(rainy, clean)[0]) == pytest.approx(0.767, abs=2e-3)
    assert float(distance(clean, clean)[0]) == 0.0
    assert distance(rainy, clean).dtype == torch.float64
