"""The rain synthesiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy_robust import keyed
from deploy_robust.data.rain import RainSettings, add_rain
from deploy_robust.errors import UsageError


def grey(height: int, width: int, level: int = 90) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 255), st.integers(0, 2**32))
def test_any_size_stays_8_bit_and_brightens_towards_the_light(height: int, width: int, level: int, seed: int) -> None:
    clean = grey(height, width, level)
    rainy = add_rain(clean, keyed.generator(seed, "rain"))
    assert rainy.dtype == np.uint8
    assert rainy.shape == clean.shape
    low, high = min(level, 182), max(level, 250)  # 182: the darkest veil, 0.85 of the darkest light
    assert rainy.min() >= low
    assert rainy.max() <= high


def test_same_key_same_bytes_and_the_input_is_left_alone() -> None:
    clean = grey(64, 80)
    first = add_rain(clean, keyed.generator(3, "rain", 1))
    assert np.array_equal(first, add_rain(clean, keyed.generator(3, "rain", 1)))
    assert not np.array_equal(first, add_rain(clean, keyed.generator(3, "rain", 2)))
    assert (clean == 90).all()


def test_most_of_the_error_is_streaks() -> None:
    shares = []
    for index in range(16):
        error = add_rain(grey(128, 128), keyed.generator(0, index)).astype(float)[..., 0] - 90.0
        shares.append(error.var() / np.mean(error**2))  # what a constant veil cannot explain
    assert np.mean(shares) > 0.55


def test_streaks_fall_along_the_angle() -> None:
    fall = RainSettings(angle=(30.0, 30.0), angle_spread=0.0, veil=(0.0, 0.0))
    error = add_rain(grey(192, 192), keyed.generator(0, "angle"), fall).astype(float)[..., 0] - 90.0
    error -= error.mean()
    tangent = np.tan(np.deg2rad(30.0))

    def similarity(angle_sign: float, step: int = 10) -> float:
        shift = round(angle_sign * step * tangent)
        return float(np.mean(error[step:, 20:-20] * np.roll(error, shift, axis=1)[:-step, 20:-20]) / error.var())

    assert similarity(+1.0) > 0.3
    assert similarity(+1.0) > 3.0 * abs(similarity(-1.0))


def test_more_density_more_rain() -> None:
    errors = []
    for density in (4.0, 12.0, 36.0):
        rain = RainSettings(density=(density, density))
        errors.append(
            np.mean([add_rain(grey(96, 96), keyed.generator(0, i), rain).astype(float) - 90 for i in range(6)])
        )
    assert errors[0] < errors[1] < errors[2]


def test_far_layers_fall_behind_near_objects_and_the_veil_grows_with_depth() -> None:
    depth = np.full((128, 128), 500.0, np.float32)
    depth[:, :64] = 1.0

    def error(rain: RainSettings) -> np.ndarray:
        return add_rain(grey(128, 128), keyed.generator(0, "depth"), rain, depth=depth).astype(float)[..., 0] - 90.0

    streaks = error(RainSettings(veil=(0.0, 0.0))) > 0
    assert 0 < np.count_nonzero(streaks[:, :64]) < 0.5 * np.count_nonzero(streaks[:, 64:])
    veil = error(RainSettings(density=(0.0, 0.0), veil=(0.3, 0.3)))
    assert veil[:, :64].max() <= 2
    assert veil[:, 64:].min() > 20


def test_no_rain_at_all_is_the_clean_image() -> None:
    clean = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    dry = RainSettings(density=(0.0, 0.0), veil=(0.0, 0.0))
    assert np.array_equal(add_rain(clean, keyed.generator(0), dry), clean)


@pytest.mark.parametrize(
    "clean", [np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 4), np.uint8)]
)
def test_other_images_are_refused(clean: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"\(H, W, 3\) uint8"):
        add_rain(clean, keyed.generator(0))


def test_a_depth_map_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="same size"):
        add_rain(grey(32, 32), keyed.generator(0), depth=np.ones((32, 33), np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"density": (5.0, 4.0)},
        {"opacity": (0.0, 1.1)},
        {"angle": (-90.0, 0.0)},
        {"layers": 0},
        {"falloff": 0.0},
        {"length_spread": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="rain"):
        RainSettings(**wrong)  # type: ignore[arg-type]


def test_digest_names_the_settings() -> None:
    assert RainSettings().digest() == RainSettings().digest()
    assert RainSettings().digest() != RainSettings(layers=2).digest()
