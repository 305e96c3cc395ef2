"""RESCAN is the published network: fingerprints of the original (in BGR), counts, the official layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import UsageError
from deploy_robust.models.checkpoints import load_official
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {"rescan_official24": "official", "rescan_benchmark64": "benchmark"}


@pytest.mark.parametrize(("entry", "preset"), ENTRIES.items())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-8)], ids=["f32", "f64"])
def test_every_rain_layer_matches_the_original_network(
    fingerprints: Any, entry: str, preset: str, dtype: torch.dtype, tolerance: float
) -> None:
    record = fingerprints("rescan")
    model = MODELS.create("rescan", preset)
    model.load_state_dict(MODELS.spec("rescan").from_official(record.official_weights(entry)))
    model = model.to(dtype)
    with torch.inference_mode():
        # The record is of the original in BGR, whose input is the image with its channels reversed.
        x = record.native_image(entry, dtype)
        outputs = model.training_outputs(x)
        assert torch.equal(model(x), outputs.final)
    found = {
        "derained = O - R_4": outputs.final.flip(1),
        **{f"R_{s}": (x - image).flip(1) for s, image in enumerate(outputs.stages, start=1)},
    }
    assert record.worst_deviation(entry, found) <= tolerance


@pytest.mark.parametrize(("preset", "count"), [("official", 149_823), ("benchmark", 1_044_583)])
def test_parameter_counts_are_the_published_ones(preset: str, count: int) -> None:
    model = MODELS.create("rescan", preset)
    assert model.parameter_count == model.published_parameter_count == count


def test_official_files_load_strictly(fingerprints: Any, tmp_path: Path) -> None:
    state = fingerprints("rescan").official_weights("rescan_official24")
    torch.save({"net": state, "clock": 20_000}, tmp_path / "x.pth")
    model, info = load_official("rescan", "official", tmp_path / "x.pth")
    assert info.official
    assert torch.equal(model.state_dict()["decoder_rain.bias"], state["dec.3.bias"].flip(0))


def test_a_network_without_units_is_refused() -> None:
    with pytest.raises(UsageError, match="units"):
        MODELS.create("rescan", "tiny", units=0)
