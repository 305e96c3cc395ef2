"""JORDER-E is the published network: fingerprints, counts, ablations, official weights on real pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import UsageError
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.checkpoints import load_any, load_official
from deploy_robust.models.jorder_e import side_information
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = {"jorder_e_default": "official", "jorder_e_practical": "practical"}


@pytest.mark.parametrize(("entry", "preset"), ENTRIES.items())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-8)], ids=["f32", "f64"])
def test_every_output_matches_the_original_network(
    fingerprints: Any, entry: str, preset: str, dtype: torch.dtype, tolerance: float
) -> None:
    record = fingerprints("jorder_e")
    model = MODELS.create("jorder-e", preset)
    model.load_state_dict(MODELS.spec("jorder-e").from_official(record.official_weights(entry)))
    model = model.to(dtype)
    with torch.inference_mode():
        x = record.native_image(entry, dtype) / 255
        outputs = model.training_outputs(x)
        assert torch.equal(model(x), outputs.final)
    found = {
        "x2 (final)": outputs.final * 255,
        "x1": outputs.stages[0] * 255,
        "mask2 (logits)": outputs.extras["mask"],
        "level2": outputs.extras["level"] * 255,
    }
    assert record.worst_deviation(entry, found) <= tolerance


@pytest.mark.parametrize(
    ("preset", "dilations", "count"),
    [
        ("official", (1, 2, 3), 4_169_024),
        ("official", (1, 2), 2_839_616),
        ("official", (1,), 1_510_208),
        ("practical", (1, 2, 3), 406_784),
    ],
)
def test_parameter_counts_are_the_published_ones(preset: str, dilations: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        model = MODELS.create("jorder-e", preset, dilations=dilations)
    assert model.parameter_count == model.published_parameter_count == count


def test_the_mask_branch_can_be_left_out_and_nothing_else_goes_with_it() -> None:
    full, without = (MODELS.create("jorder-e", "tiny", mask_branch=flag) for flag in (True, False))
    gone = set(full.state_dict()) - set(without.state_dict())
    assert {key.split(".")[1] for key in gone} == {"mask"}
    assert set(without.state_dict()) < set(full.state_dict())
    extras = without.training_outputs(torch.rand(1, 3, 32, 32)).extras
    assert set(extras) == {"level"}


def test_other_dilations_than_the_papers_are_refused() -> None:
    with pytest.raises(UsageError, match="dilations"):
        MODELS.create("jorder-e", "tiny", dilations=(2, 3))


def test_side_information_follows_the_red_channel_and_the_outputs_fit_it() -> None:
    rainy, clean = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    targets = side_information(rainy, clean)
    assert torch.equal(targets["mask"], torch.where(clean[:, 0] > rainy[:, 0], 1, 0))
    assert torch.equal(targets["level"], clean - rainy)
    extras = MODELS.create("jorder-e", "tiny").training_outputs(rainy).extras
    assert extras["level"].shape == targets["level"].shape
    assert torch.nn.functional.cross_entropy(extras["mask"], targets["mask"]).isfinite()


def test_official_weights_reach_the_recorded_psnr(data_root: Path, real_pair: Any) -> None:
    """The authors' practical network on three Rain100H pairs; figures of the original implementation."""
    model, info = load_official("jorder-e", "practical", data_root / "checkpoints" / "jorder_e_practical.pt")
    assert info.official
    found = []
    for name in ("norain-5", "norain-10", "norain-15"):
        rainy, clean = real_pair(name)
        with torch.inference_mode():
            found.append(float(psnr(model(rainy), clean)))
    assert found == pytest.approx([23.4383, 25.3706, 30.0909], abs=2e-3)


def test_official_files_default_to_the_practical_preset(data_root: Path) -> None:
    _, info = load_any(data_root / "checkpoints" / "jorder_e_practical.pt", name="jorder-e")
    assert str(info.identity) == "jorder-e/practical"
