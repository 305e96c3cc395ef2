"""The weights that come with the package: small, traceable, and better than the rain."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy_robust.data.scenes import SceneSource
from deploy_robust.models import checkpoints
from deploy_robust.models.checkpoints import load_any, shipped
from deploy_robust.training.crops import PairPool
from deploy_robust.training.validation import validate

PLAIN = [name for name in shipped() if not name.endswith("-robust")]


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_say_how_they_were_made(name: str) -> None:
    _, info = load_any(name)
    assert info.origin == f"shipped {name}"
    assert info.record["command"].startswith("deploy-robust train")
    assert {source["split"] for source in info.record["data"]["sources"]} == {"train"}
    assert info.record["steps_done"] == info.record["plan"]["steps"]
    assert info.record["curve"][-1]["output_psnr"] == info.record["validation"]["output_psnr"]


@pytest.mark.parametrize("plain", PLAIN)
def test_twins_share_all_but_the_adversary(plain: str) -> None:
    (network, one), (other, two) = load_any(plain), load_any(f"{plain}-robust")
    assert network.identity == other.identity
    assert two.record["started_from"] == one.weights_sha256
    assert two.record["data"] == one.record["data"]
    assert two.record["plan"]["seed"] == one.record["plan"]["seed"]
    assert one.record["plan"]["adversary"] is None
    assert two.record["plan"]["adversary"]["epsilon"] > 0


@pytest.mark.parametrize("plain", PLAIN)
def test_plain_twins_were_trained_to_the_end_of_their_curve(plain: str) -> None:
    """A twin that is still learning would make any other training look good."""
    record = load_any(plain)[1].record
    rain = record["validation"]["input_psnr"]
    gains = [point["output_psnr"] - rain for point in record["curve"]]
    assert gains[-1] >= 0.95 * max(gains)


def test_shipped_weights_stay_within_their_megabytes() -> None:
    folder = Path(checkpoints.__file__).with_name("weights")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    assert (folder / "prenet-small.safetensors").stat().st_size < 3e6


def test_prenet_small_derains_scenes_that_it_never_saw() -> None:
    model, _ = load_any("prenet-small")
    score = validate(model, PairPool.of([SceneSource(4, seed=77)]), "cpu")
    assert score.gain > 8
