"""PReNet is the published network: fingerprints of the original, parameter counts, official weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.checkpoints import load_any, load_official
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {"prenet_official32": "official", "prenet_benchmark96": "benchmark", "prenet_r": "official-r"}


@pytest.mark.parametrize(("entry", "preset"), ENTRIES.items())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-8)], ids=["f32", "f64"])
def test_every_iteration_matches_the_original_network(
    fingerprints: Any, entry: str, preset: str, dtype: torch.dtype, tolerance: float
) -> None:
    record = fingerprints("prenet")
    model = MODELS.create("prenet", preset)
    model.load_state_dict(MODELS.spec("prenet").from_official(record.official_weights(entry)))
    model = model.to(dtype)
    with torch.inference_mode():
        x = record.image().to(dtype)
        outputs = model.training_outputs(x)
    found = {"final": outputs.final, **{f"x_{t}": image for t, image in enumerate(outputs.stages, start=1)}}
    deviations = {name: record.deviation(entry, name, image) for name, image in found.items()}
    assert len(deviations) == len(record.entries[entry]["outputs"])
    assert max(deviations.values()) <= tolerance, deviations


@pytest.mark.parametrize(
    ("preset", "count"), [("official", 168_963), ("benchmark", 1_502_211), ("official-r", 94_979), ("small", 43_011)]
)
def test_parameter_counts_are_the_published_ones(preset: str, count: int) -> None:
    """The paper's formula is 162 C^2 + 96 C + 3 with five blocks."""
    assert MODELS.create("prenet", preset).parameter_count == count


def test_a_network_without_iterations_is_refused() -> None:
    with pytest.raises(UsageError, match="iterations"):
        MODELS.create("prenet", "tiny", iterations=0)


@pytest.mark.parametrize(
    ("file", "preset"), [("prenet6_rain100h.pth", "official"), ("prenet6_r_rain100h.pth", "official-r")]
)
def test_official_weights_derain_a_real_crop(data_root: Path, file: str, preset: str) -> None:
    model, info = load_official("prenet", preset, data_root / "checkpoints" / file)
    rainy, clean = (
        torch.from_numpy(np.asarray(Image.open(data_root / "rain100h" / kind / "norain-15.png")).copy()).float() / 255
        for kind in ("rain", "norain")
    )
    x, b = (image[96:224, 176:304].permute(2, 0, 1)[None] for image in (rainy, clean))
    with torch.inference_mode():
        y = model(x)
    assert info.official
    assert torch.isfinite(y).all()
    gain = 10 * torch.log10((x - b).square().mean() / (y.clamp(0, 1) - b).square().mean())
    assert gain > 10


def test_official_weights_of_the_wrong_preset_are_refused_by_key(data_root: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: blocks\.1\.conv1\.weight"):
        load_official("prenet", "official", data_root / "checkpoints" / "prenet6_r_rain100h.pth")
    with pytest.raises(CheckpointError, match="of another shape"):
        load_official("prenet", "benchmark", data_root / "checkpoints" / "prenet6_rain100h.pth")


def test_official_files_need_a_network_name_and_default_to_its_official_preset(data_root: Path) -> None:
    path = data_root / "checkpoints" / "prenet6_rain100h.pth"
    with pytest.raises(UsageError, match="--model"):
        load_any(path)
    assert str(load_any(path, name="prenet")[1].identity) == "prenet/official"
