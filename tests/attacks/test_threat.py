"""Epsilon in words and numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deploy_robust.attacks.threat import format_epsilon, levels, parse_epsilon, quantise, whole_levels
from deploy_robust.errors import UsageError


@given(steps=st.integers(1, 254))
def test_whole_levels_survive_words_and_numbers(steps):
    eps = parse_epsilon(f"{steps}/255")
    assert eps == steps / 255
    assert levels(eps) == steps
    assert whole_levels(eps) == steps
    assert format_epsilon(eps) == f"{steps}/255"


@given(eps=st.floats(1e-6, 0.999))
def test_what_is_printed_is_read_back(eps):
    assert parse_epsilon(format_epsilon(eps)) == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "eps"), [("0.5/255", 0.5 / 255), (" 4 / 255 ", 4 / 255), ("0.25", 0.25), ("1/8", 1 / 8)]
)
def test_other_ways_to_write_epsilon(text, eps):
    assert parse_epsilon(text) == pytest.approx(eps, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", "did you mean 4/255"),
        ("0", "between 0 and 1"),
        ("-1/255", "between 0 and 1"),
        ("255/255", "between 0 and 1"),
        ("four", "n/255"),
        ("1/0", "n/255"),
        ("nan", "n/255"),
        ("", "n/255"),
    ],
)
def test_what_is_no_epsilon_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_epsilon(text)


@pytest.mark.parametrize("eps", [0.5 / 255, 1.5 / 255, 0.01])
def test_an_8_bit_camera_refuses_fractions(eps):
    with pytest.raises(UsageError, match="8-bit camera needs a whole epsilon"):
        whole_levels(eps)


def test_rounding_to_8_bits_keeps_8_bit_images_and_takes_the_nearest_level():
    steps = torch.arange(256, dtype=torch.float32)
    assert torch.equal(quantise(steps / 255), steps / 255)
    assert torch.equal(quantise((steps[:-1] + 0.4) / 255), steps[:-1] / 255)
    assert torch.equal(quantise((steps[:-1] + 0.6) / 255), steps[1:] / 255)
