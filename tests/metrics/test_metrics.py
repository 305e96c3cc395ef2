"""PSNR, SSIM and the mean adversarial performance against scikit-image and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from deploy_robust.errors import UsageError
from deploy_robust.metrics.mean_adversarial import mean_adversarial
from deploy_robust.metrics.psnr import psnr
from deploy_robust.metrics.registry import METRICS
from deploy_robust.metrics.ssim import ssim


def images(seed: int, count: int = 2, height: int = 37, width: int = 45) -> tuple[torch.Tensor, torch.Tensor]:
    """8-bit images and a noisy version that leaves [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    base = torch.rand(count, 3, height // 4 + 1, width // 4 + 1, generator=g)
    b = torch.nn.functional.interpolate(base, size=(height, width), mode="bilinear").mul(255).round() / 255
    return b + 0.1 * torch.randn(b.shape, generator=g), b


def as_uint8(x: torch.Tensor) -> np.ndarray:
    return x.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("shave", [0, 3, 8])
def test_psnr_is_that_of_scikit_image(shave):
    a, b = images(0)
    for got, x, y in zip(psnr(a, b, shave=shave), as_uint8(a), as_uint8(b), strict=True):
        crop = np.s_[shave : x.shape[0] - shave, shave : x.shape[1] - shave]
        assert got.item() == pytest.approx(peak_signal_noise_ratio(y[crop], x[crop], data_range=255), abs=1e-9)


def test_psnr_of_the_luma_is_that_of_scikit_image():
    a, b = images(1)
    for got, x, y in zip(psnr(a, b, luma=True, shave=0), as_uint8(a), as_uint8(b), strict=True):
        expected = peak_signal_noise_ratio(rgb2ycbcr(y)[..., 0], rgb2ycbcr(x)[..., 0], data_range=255)
        assert got.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("luma", [False, True])
def test_ssim_over_valid_windows_is_that_of_scikit_image(luma):
    a, b = images(2)
    for got, x, y in zip(ssim(a, b, border="valid", luma=luma), as_uint8(a), as_uint8(b), strict=True):
        left, right = (rgb2ycbcr(i)[..., :1] if luma else i.astype(float) for i in (x, y))
        # The mean that scikit-image returns leaves out the same five border pixels.
        expected = structural_similarity(
            left, right, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert got.item() == pytest.approx(expected, abs=1e-12)


def test_ssim_with_zero_padding_is_that_of_a_padded_image():
    a, b = images(3)
    got = ssim(a, b)
    # Valid windows of the image inside a black frame are the zero-padded windows of the image.
    framed = [torch.nn.functional.pad(x.clamp(0, 1), (5, 5, 5, 5)) for x in (a, b)]
    torch.testing.assert_close(got, ssim(*framed, border="valid"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_score_does_not_depend_on_the_batch(name):
    a, b = images(4, count=3)
    together = METRICS[name](a, b)
    alone = torch.cat([METRICS[name](a[i : i + 1], b[i : i + 1]) for i in range(3)])
    assert together.dtype == torch.float64
    assert together.shape == (3,)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", list(METRICS))
def test_metrics_are_symmetric_and_know_their_direction(name):
    _, b = images(5)
    little, much = b + 0.02 * torch.sin(b * 99), b + 0.2 * torch.sin(b * 99)
    metric = METRICS[name]
    torch.testing.assert_close(metric(b, much), metric(much, b), rtol=1e-12, atol=0)
    assert ((metric(little, b) > metric(much, b)) == metric.higher_is_better).all()


def test_identical_images_are_infinitely_good_and_nan_stays_nan():
    _, b = images(6)
    assert psnr(b, b).tolist() == [math.inf] * 2
    torch.testing.assert_close(ssim(b, b), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    broken = b.clone()
    broken[1, 0, 20, 20] = math.nan
    assert psnr(broken, b)[0] == math.inf
    assert psnr(broken, b)[1].isnan()
    assert ssim(broken, b).isnan().tolist() == [False, True]


@given(level=st.integers(0, 254), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=40)
def test_rounding_takes_the_nearest_level_and_truncation_the_one_below(level, dtype):
    image = torch.full((1, 3, 32, 32), level, dtype=dtype) / 255
    brighter = image + 0.6 / 255
    assert psnr(image, image.float().to(dtype), rounding="round").item() == math.inf
    assert psnr(brighter, image, rounding="truncate").item() == math.inf
    assert psnr(brighter, image).item() == pytest.approx(20 * math.log10(255))


def test_unrounded_scores_see_the_last_bit():
    image = torch.full((1, 3, 32, 32), 0.75)
    nudged = torch.nextafter(image, torch.ones(()))
    expected = -20 * math.log10(2.0**-24)
    assert psnr(image, nudged, shave=0, rounding="none", clamp=False).item() == pytest.approx(expected, abs=1e-6)


def test_values_outside_the_range_are_cut_off_unless_asked():
    a, b = torch.full((1, 3, 32, 32), 1.5), torch.ones(1, 3, 32, 32)
    assert psnr(a, b).item() == math.inf
    assert psnr(a, b, clamp=False, rounding="none").item() == pytest.approx(-20 * math.log10(0.5))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: psnr(x, x[..., :-1]), "one shape"),
        (lambda x: psnr(x[:, :1], x[:, :1]), "RGB"),
        (lambda x: psnr(x, x, shave=20), "leaves nothing"),
        (lambda x: psnr(x, x, rounding="up"), "rounding must be one of"),
        (lambda x: ssim(x, x, border="mirror"), "border must be one of"),
        (lambda x: ssim(x[..., :9], x[..., :9]), "at least 11 pixels"),
        (lambda x: METRICS["pnsr"], "did you mean 'psnr'"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_reason(call, words):
    with pytest.raises(UsageError, match=words):
        call(torch.zeros(1, 3, 32, 32))


def test_mean_adversarial_performance_weighs_epsilons_equally():
    scores = {1.0: [20.0, 22.0], 2.0: [10.0], 4.0: [6.0, 8.0], 8.0: [5.0, 5.0, 5.0], 0.5: [99.0]}
    assert mean_adversarial(scores) == pytest.approx((21 + 10 + 7 + 5) / 4)
    with pytest.raises(UsageError, match="8/255"):
        mean_adversarial({1.0: [1.0], 2.0: [1.0], 4.0: [1.0]})


def test_a_registry_refuses_a_second_entry_of_one_name_and_keeps_the_first():
    twin = METRICS.copy()
    first = twin["psnr"]
    with pytest.raises(UsageError, match="already"):
        twin.add("psnr", METRICS["ssim"])
    assert twin["psnr"] is first
    twin.add("again", first)
    assert "again" not in METRICS
