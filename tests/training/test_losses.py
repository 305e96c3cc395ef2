"""Losses against independent references, and their composition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from deploy_robust.errors import UsageError
from deploy_robust.metrics.ssim import ssim
from deploy_robust.models.registry import MODELS
from deploy_robust.training.crops import Batch
from deploy_robust.training.losses import FinalImage, Loss, charbonnier, mse, negative_ssim, parse_loss
from deploy_robust.training.schedule import cosine

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer, TrainingOutputs


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    clean = torch.rand(2, 3, 24, 20, generator=rng)
    return (clean + 0.1 * torch.randn(clean.shape, generator=rng)).clamp(0, 1), clean


def test_distances_match_their_formulas(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, b = (image.double().numpy() for image in images)
    assert mse(*images).item() == pytest.approx(((y - b) ** 2).mean(), rel=1e-5)
    assert charbonnier(*images).item() == pytest.approx(np.sqrt((y - b) ** 2 + 1e-6).mean(), rel=1e-5)


def test_ssim_in_float32_matches_the_metric_and_has_the_gradient_of_finite_differences(
    images: tuple[torch.Tensor, torch.Tensor],
) -> None:
    y, b = images
    assert 1 - negative_ssim(y, b).item() == pytest.approx(ssim(y, b, rounding="none").mean().item(), abs=1e-5)
    assert negative_ssim(b, b).item() == pytest.approx(0, abs=1e-6)
    small = [image[:1, :, :12, :12].double().requires_grad_() for image in images]
    assert torch.autograd.gradcheck(negative_ssim, tuple(small))


def test_ssim_matches_scikit_image_away_from_the_border(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Where both images are black around a patch, zero padding changes nothing."""
    y, b = (F.pad(image[:1, :, :16, :16], (16,) * 4) for image in images)
    _, full = structural_similarity(
        y[0].permute(1, 2, 0).double().numpy(),
        b[0].permute(1, 2, 0).double().numpy(),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert 1 - negative_ssim(y, b).item() == pytest.approx(full.mean(), abs=1e-5)


def test_a_loss_is_the_weighted_sum_of_its_terms(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = MODELS.create("prenet", "tiny")
    batch = Batch(*images)
    value = parse_loss("mse + 0.25*ssim")(model, batch)
    final = model(images[0])
    torch.testing.assert_close(value.terms["mse"], mse(final, images[1]))
    torch.testing.assert_close(value.total, mse(final, images[1]) + 0.25 * negative_ssim(final, images[1]))


def test_a_term_may_pass_through_the_model_again(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    """What the adversarial loss needs: the model, the batch and the clean outputs."""

    def consistency(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> torch.Tensor:
        return mse(model(batch.rainy + 0.01), outputs.final)

    model = MODELS.create("prenet", "tiny")
    loss = Loss({"mse": (1.0, FinalImage(mse)), "consistency": (2.0, consistency)})
    value = loss(model, Batch(*images))
    value.total.backward()
    assert value.terms["consistency"] > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("text", ["", "l7", "mse+mse", "0*mse", "-1*mse", "x*mse", "inf*mse", "mse+"])
def test_unreadable_losses_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        parse_loss(text)


def test_the_rate_warms_up_to_its_peak_and_falls_to_its_end() -> None:
    rates = [cosine(step, steps=100, peak=1.0, final=0.1, warmup=10) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
