"""UMRL is the published network: fingerprints with running and with own statistics, counts, official weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import UsageError
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.checkpoints import load_official
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import pad_to_rule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.models.derainer import TrainingOutputs

ENTRIES = {"umrl": "official", "umrl_batch_statistics": "batch-statistics"}


def _native(outputs: TrainingOutputs) -> dict[str, Tensor]:
    extras = outputs.extras
    return {
        "clean (final)": 2 * outputs.final - 1,
        "r1": 2 * extras["residual"],
        "clean_quarter": 2 * extras["clean_quarter"] - 1,
        "clean_half": 2 * extras["clean_half"] - 1,
        "c4": extras["confidence_quarter"],
        "c2": extras["confidence_half"],
        "c1": extras["confidence"],
    }


@pytest.mark.parametrize(("entry", "preset"), ENTRIES.items())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_every_output_matches_the_original_network(
    fingerprints: Any, entry: str, preset: str, dtype: torch.dtype
) -> None:
    record = fingerprints("umrl")
    model = MODELS.create("umrl", preset).eval()
    model.load_state_dict(MODELS.spec("umrl").from_official(record.official_weights(entry)))
    model = model.to(dtype)
    with torch.inference_mode():
        x = (record.native_image(entry, dtype) + 1) / 2
        outputs = model.training_outputs(x)
        torch.testing.assert_close(model(x), outputs.final, rtol=0, atol=1e-6)
    single = 2e-4 if entry.endswith("batch_statistics") else 2e-5
    assert record.worst_deviation(entry, _native(outputs)) <= (single if dtype == torch.float32 else 1e-8)


def test_own_statistics_are_what_training_mode_does_with_one_image() -> None:
    torch.manual_seed(0)
    model = MODELS.create("umrl", "tiny", batch_statistics=True)
    x = torch.rand(2, 3, 48, 64)
    alone = torch.cat([model.train()(row[None]) for row in x])
    torch.testing.assert_close(model.eval()(x), alone, rtol=0, atol=1e-5)


def test_parameter_counts_are_the_published_ones() -> None:
    """2,362 of the authors' values are never used and not stored here."""
    with torch.device("meta"):
        model = MODELS.create("umrl", "official")
    assert (model.published_parameter_count, model.parameter_count) == (984_356, 984_356 - 2_362)


def test_odd_widths_are_refused() -> None:
    with pytest.raises(UsageError, match="even width"):
        MODELS.create("umrl", "tiny", width=5)


@pytest.mark.slow
def test_official_weights_reach_the_recorded_psnr(data_root: Path, real_pair: Any) -> None:
    """Ten Rain100H pairs with own statistics: 25.5387 dB in the original implementation."""
    found = [_official_psnr("batch-statistics", data_root, real_pair(f"norain-{k}")) for k in range(5, 100, 10)]
    assert sum(found) / len(found) == pytest.approx(25.5387, abs=0.02)


def test_running_statistics_are_worse_on_a_real_pair(data_root: Path, real_pair: Any) -> None:
    """The documented gap between the authors' test script and evaluation mode, on one whole image."""
    pair = real_pair("norain-15")
    running, own = (_official_psnr(preset, data_root, pair) for preset in ("official", "batch-statistics"))
    assert own > running + 4


def _official_psnr(preset: str, data_root: Path, pair: tuple[Tensor, Tensor]) -> float:
    model, info = load_official("umrl", preset, data_root / "checkpoints" / "umrl_jorder.pth")
    assert info.official
    rainy, clean = pair
    with torch.inference_mode():
        image = model(pad_to_rule(rainy, model.size_rule))[..., : rainy.shape[-2], : rainy.shape[-1]]
    return float(psnr(image, clean))
