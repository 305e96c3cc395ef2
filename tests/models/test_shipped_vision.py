"""The vision weights that come with the package: small, traceable, and good on scenes that they never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy_robust.data.scenes import SceneSource
from deploy_robust.models import checkpoints
from deploy_robust.models.vision.registry import load_vision, shipped_vision
from deploy_robust.training.vision.validation import validate_vision

LEAST = {"scene-segmenter": ("miou", 0.6), "scene-detector": ("ap50", 0.4)}


@pytest.mark.parametrize("name", list(LEAST))
def test_shipped_weights_say_how_they_were_made(name: str) -> None:
    _, info = load_vision(name)
    assert info.origin == f"shipped {name}"
    assert info.record["command"].startswith("deploy-robust train-vision")
    assert {source["split"] for source in info.record["data"]["sources"]} == {"train"}
    assert info.record["validation"]["source"]["split"] == "validation"
    assert info.record["steps_done"] == info.record["plan"]["steps"]


def test_there_are_as_many_as_are_tested_and_they_stay_small() -> None:
    assert shipped_vision() == sorted(LEAST)
    folder = Path(checkpoints.__file__).with_name("weights") / "vision"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6


@pytest.mark.parametrize("name", list(LEAST))
def test_they_see_in_scenes_that_they_never_saw(name: str) -> None:
    network, _ = load_vision(name)
    source = SceneSource(48, seed=77, size=(128, 128), split="test")
    score = validate_vision(network, [source[i] for i in range(len(source))])
    metric, least = LEAST[name]
    assert score.clean[metric] > least
    assert score.rainy[metric] < score.clean[metric]  # rain hides something
