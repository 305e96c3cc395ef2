"""Each scenario of the paper does what it says, on embedded scenes; benchmarks/scenarios.py measures real crops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.registry import make_attack
from deploy_robust.attacks.threat import quantise
from deploy_robust.data.scenes import SceneSource
from deploy_robust.models.checkpoints import load_any
from deploy_robust.models.perceptual import perceptual

SIZE, COUNT = 48, 2
BOX, TARGET = "8,16,20,32", "24,16,36,32"


@pytest.fixture(scope="module")
def task() -> Task:
    """Rainy scenes, the shipped network, 4/255."""
    network, _ = load_any("prenet-small")
    network.eval().requires_grad_(False)
    source = SceneSource(COUNT, size=(SIZE, SIZE))
    x, truth = (
        torch.stack([torch.from_numpy(getattr(source[i], kind).copy()) for i in range(COUNT)]).permute(0, 3, 1, 2) / 255
        for kind in ("rainy", "clean")
    )
    with torch.no_grad():
        clean = network(x)
    keys = tuple((source[i].id, "scenario") for i in range(COUNT))
    return Task(x, torch.full((COUNT, 1, 1, 1), 4 / 255), 0, keys, network, clean, truth)


@pytest.fixture(scope="module")
def attacked(task):
    """8-bit adversarial images and outputs by scenario, crafted once."""
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def craft(name: str, **parts):
        if name not in found:
            crafted = make_attack(name, algorithm="pgd", iterations=8, **parts).craft(task)
            z = quantise(crafted.images)
            with torch.no_grad():
                found[name] = z, task.restore(z)
        return found[name]

    return craft


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((-10 * (a.clamp(0, 1) - b.clamp(0, 1)).square().mean((1, 2, 3)).log10()).mean())


def test_unnoticeable_looks_worse_at_a_higher_psnr(task, attacked):
    by = perceptual("scene-segmenter")
    known = by.features(task.clean_output)
    _, plain = attacked("whole", objective="lmse")
    _, hidden = attacked("hidden", objective="unnoticeable", net="scene-segmenter", weight=1)
    seen = [float(by.distance(by.features(y), known).mean()) for y in (hidden, plain)]
    assert seen[0] > seen[1]
    assert psnr(hidden, task.clean_output) > psnr(plain, task.clean_output) + 1


def test_a_larger_lambda_keeps_a_higher_psnr(task, attacked):
    _, loose = attacked("hidden", objective="unnoticeable", net="scene-segmenter", weight=1)
    _, tight = attacked("tight", objective="unnoticeable", net="scene-segmenter", weight=50)
    assert psnr(tight, task.clean_output) > psnr(loose, task.clean_output)


def test_input_close_brings_the_output_nearer_to_the_rain_than_any_other(task, attacked):
    near = {
        name: psnr(attacked(name, **parts)[1], task.x)
        for name, parts in {
            "near": {"objective": "input-close"},
            "whole": {"objective": "lmse"},
            "hidden": {"objective": "unnoticeable", "net": "scene-segmenter", "weight": 1},
            "rain": {"objective": "lmse", "mask": "rain"},
        }.items()
    }
    assert max(near, key=lambda name: near[name]) == "near"
    assert near["near"] > psnr(task.clean_output, task.x)


@pytest.mark.parametrize("when", ["each-step", "after"])
def test_an_object_comes_to_look_like_its_target_and_nothing_else_is_touched(task, attacked, when):
    parts = {"objective": "object", "box": BOX, "target": TARGET, "mask": "boxes", "boxes": BOX, "mask_when": when}
    z, y = attacked(f"object-{when}", **parts)
    wanted = task.clean_output[..., 16:32, 24:36]
    before, after = ((each[..., 16:32, 8:20] - wanted).square().mean((1, 2, 3)) for each in (task.clean_output, y))
    assert (after < 0.95 * before).all()
    outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    outside[16:32, 8:20] = False
    assert torch.equal(z[..., outside], quantise(task.x)[..., outside])


def test_the_rain_alone_costs_a_third_of_what_the_whole_image_does(task, attacked):
    clean = psnr(task.clean_output, task.ground_truth)
    lost = {
        name: clean - psnr(attacked(name, objective="lmse", **parts)[1], task.ground_truth)
        for name, parts in {"whole": {}, "rain": {"mask": "rain"}}.items()
    }
    assert lost["rain"] >= lost["whole"] / 3 > 0.3
    region = make_attack("rain", algorithm="pgd", mask="rain").mask.region(task).expand_as(task.x)
    assert 0.1 < region.float().mean() < 0.9
    z = attacked("rain", objective="lmse", mask="rain")[0]
    assert torch.equal(z[~region], quantise(task.x)[~region])


def test_the_ground_truths_rain_is_another_region_than_the_outputs(task):
    by_output, by_truth = (
        make_attack("rain", algorithm="pgd", mask="rain", rain_from=source).mask.region(task)
        for source in ("clean-output", "ground-truth")
    )
    rain = ((task.ground_truth - task.x).abs() * 255 > 10.5).any(1, keepdim=True)
    assert torch.equal(by_truth, rain)
    assert not torch.equal(by_output, by_truth)
    nothing = replace(task, ground_truth=task.x)
    assert not make_attack("rain", algorithm="pgd", mask="rain", rain_from="ground-truth").mask.region(nothing).any()
