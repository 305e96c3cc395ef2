"""RCDNet is the published network: fingerprints, counts, ablations, first kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.attention import ATTENTIONS
from deploy_robust.models.rcdnet import WIDTH_FOR_STAGES, from_official, streak_kernels
from deploy_robust.models.registry import MODELS


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        pytest.param(torch.float32, 2e-5, id="f32"),
        pytest.param(torch.float64, 1e-8, id="f64", marks=pytest.mark.slow),
    ],
)
def test_every_output_matches_the_original_network(fingerprints: Any, dtype: torch.dtype, tolerance: float) -> None:
    record = fingerprints("rcdnet")
    model = MODELS.create("rcdnet", "official").eval()
    model.load_state_dict(MODELS.spec("rcdnet").from_official(record.official_weights("rcdnet17")))
    model = model.to(dtype)
    with torch.inference_mode():
        x = record.native_image("rcdnet17", dtype) / 255
        outputs = model.training_outputs(x)
        assert torch.equal(model(x), outputs.final)
    first, *images, final = (image * 255 for image in outputs.stages)
    found = {"ListB[17] (final)": final, "B0": first}
    found |= {f"ListB[{k}]": image for k, image in enumerate(images)}
    found |= {f"ListR[{k}]": rain * 255 for k, rain in enumerate(outputs.extras["rain"])}
    assert record.worst_deviation("rcdnet17", found) <= tolerance


# Stages, then width and count of the authors' layout, then width and count with one dictionary and nothing unused.
COUNTS = [
    (2, 77, 3_176_825, 81, 3_030_583),
    (3, 67, 3_122_591, 70, 3_026_766),
    (5, 56, 3_197_051, 57, 3_030_496),
    (8, 46, 3_212_681, 46, 2_992_110),
    (12, 38, 3_184_017, 38, 2_986_758),
    (17, 32, 3_166_355, 32, 2_975_186),
]


@pytest.mark.parametrize(("stages", "published_width", "published", "width", "stored"), COUNTS)
def test_counts_at_about_three_million_parameters(
    stages: int, published_width: int, published: int, width: int, stored: int
) -> None:
    with torch.device("meta"):
        as_published = MODELS.create("rcdnet", "official", stages=stages, width=published_width)
        ours = MODELS.create("rcdnet", "official", stages=stages, width=None)
    assert as_published.published_parameter_count == published
    assert (WIDTH_FOR_STAGES[stages], ours.width, ours.parameter_count) == (width, width, stored)


def test_one_stage_runs_and_trains() -> None:
    with torch.device("meta"):
        assert MODELS.create("rcdnet", "official", stages=1, width=None).parameter_count == 3_013_544
    model = MODELS.create("rcdnet", "tiny", stages=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    outputs = model.training_outputs(torch.rand(2, 3, 32, 32))
    assert (len(outputs.stages), outputs.extras["rain"].shape) == (3, (1, 2, 3, 32, 32))
    (outputs.final.mean() + outputs.extras["rain"].mean()).backward()
    optimiser.step()


def test_a_stage_count_without_known_width_needs_one() -> None:
    with pytest.raises(UsageError, match="4 stages"):
        MODELS.create("rcdnet", "tiny", stages=4, width=None)
    with pytest.raises(UsageError, match="did you mean 'se-add'"):
        MODELS.create("rcdnet", "tiny", attention="se-ad")


def test_attention_sits_in_every_residual_branch() -> None:
    """144 modules at 17 stages: 77,376 values in squeeze-excitation with reduction 4 and no biases."""
    with torch.device("meta"):
        plain, with_se = (MODELS.create("rcdnet", "official", attention=name) for name in ("none", "se-add"))
    modules = [m for m in with_se.modules() if isinstance(m, ATTENTIONS["se-add"])]
    assert len(modules) == 144
    assert with_se.parameter_count - plain.parameter_count == 77_376


def test_first_kernels_follow_the_generator() -> None:
    """Independent loop over the authors' deterministic formula."""
    found = streak_kernels(32).numpy()
    for i in range(1, 33):
        length, a, s = (2.5 + i / 4, 0.1, 0.25) if i <= 12 else (2 + i / 4, 0.2, 0.5)
        inner = round(4 * a)
        expected = np.zeros((9, 9))
        for row in range(-4, 5):
            for column in range(-4, 5):
                y = np.sign(row) * max(abs(row) - inner, 0) / length
                x = np.sign(column) * max(abs(column) - inner, 0)
                expected[row + 4, column + 4] = np.exp(-(x**2 + y**2) / (2 * s**2))
        for channel in found[:, i - 1]:
            np.testing.assert_allclose(channel, expected / expected.sum(), atol=1e-7)
    assert streak_kernels(5).shape == (3, 5, 9, 9)


def test_official_import_takes_the_one_dictionary_that_is_used(fingerprints: Any) -> None:
    official = fingerprints("rcdnet").official_weights("rcdnet17")
    mapped = from_official(official)
    assert torch.equal(mapped["dictionary.kernels"], official["conv"][1])
    assert not [key for key in mapped if "mnet" in key or "eta" in key]
    old = {key: tensor for key, tensor in official.items() if not key.endswith("num_batches_tracked")}
    assert set(from_official(old)) == set(mapped)
    with pytest.raises(CheckpointError, match="number 1"):
        from_official({"conv": official["conv"][:1]})
