"""Costs: parameters and multiplications as published, and exactly the work that is left out here on purpose."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deploy_robust.models.counting import cost, gmacs
from deploy_robust.models.registry import MODELS

PIXELS = 320 * 480

PUBLISHED = {
    ("jorder-e", "benchmark"): (4_169_024, 639.16),
    ("jorder-e", "practical"): (406_784, 62.22),
    ("rcdnet", "benchmark"): (3_166_355, 490.66),
    ("mprnet", "benchmark"): (3_637_249, 330.43),
    ("rescan", "official"): (149_823, 75.19),
    ("rescan", "benchmark"): (1_044_583, 529.63),
    ("mprnet-r-seadd-mb", "benchmark"): (10_824_411, 939.56),
    ("mprnet-r-seadd-mb", "rc"): (5_684_475, 485.99),
}


@pytest.mark.parametrize(("name", "preset", "parameters", "published"), [(*k, *v) for k, v in PUBLISHED.items()])
def test_costs_are_the_published_ones(name: str, preset: str, parameters: int, published: float) -> None:
    found = cost(name, preset)
    assert found.published_parameters == parameters
    assert found.gmacs == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("preset", "width", "published"), [("official", 32, 155.27), ("benchmark", 96, 1383.11)])
def test_prenet_saves_the_one_gate_that_multiplies_zeros(preset: str, width: int, published: float) -> None:
    """The first iteration has no cell to forget: one convolution from 2C to C channels less."""
    spared = 2 * width * width * 9 * PIXELS / 1e9
    assert cost("prenet", preset).gmacs == pytest.approx(published - spared, rel=0.0005)


def test_umrl_leaves_out_the_images_of_the_smaller_scales_at_inference() -> None:
    """The publication counts them; here they are training outputs."""
    with torch.device("meta"):
        model = MODELS.create("umrl", "benchmark")
    assert model.published_parameter_count == 984_356
    model = model.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.training_outputs(torch.empty(1, 3, 320, 480, device="meta"))
    everything = counter.get_total_flops() / 2e9
    assert everything == pytest.approx(38.22, rel=0.0005)
    assert 0.85 * everything < gmacs(model) < 0.9 * everything


def test_counting_leaves_a_network_as_it_was_and_agrees_on_any_device() -> None:
    model = MODELS.create("rescan", "tiny")
    assert gmacs(model) == cost("rescan", "tiny").gmacs
    assert model.training


def test_a_convolution_counts_once_for_each_output_pixel() -> None:
    """Two stages of three units: the first stage skips everything that belongs to a state."""
    c, stages = 4, 2
    inputs = [3, c, c]
    without_state = sum(2 * 9 * i * c for i in inputs)
    with_state = sum(3 * 9 * i * c + 3 * 9 * c * c for i in inputs)
    decoder = 9 * c * c + 3 * c
    excitations = stages * 4 * 2 * 6 * c
    expected = (without_state + with_state + stages * decoder) * PIXELS + excitations
    assert cost("rescan", "tiny", width=c, stages=stages, units=3).gmacs == pytest.approx(expected / 1e9, rel=1e-12)
