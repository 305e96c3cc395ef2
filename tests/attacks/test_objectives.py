"""Every objective, mask and algorithm: gradients, regions, balls, batches; and LPIPS against known distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from deploy_robust.attacks.algorithms import ALGORITHMS
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.objectives.downstream import SegmentationLoss
from deploy_robust.attacks.objectives.input_close import InputClose
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.objectives.lpips import PerceptualObjective
from deploy_robust.attacks.objectives.object_sensitive import object_sensitive
from deploy_robust.attacks.objectives.unnoticeable import Unnoticeable
from deploy_robust.attacks.registry import make_attack
from deploy_robust.errors import DeployRobustError, EnvironmentProblem
from deploy_robust.models.perceptual import LPIPS, FeatureDistance


def network(dtype=torch.float32):
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1)).to(dtype)
    body.requires_grad_(False)
    return lambda x: x + body(3 * x)


def feature_network(dtype=torch.float64):
    torch.manual_seed(4)
    first, second = nn.Conv2d(3, 6, 3).to(dtype), nn.Conv2d(6, 5, 3).to(dtype)
    return lambda x: ((a := torch.tanh(first(x))), torch.tanh(second(a)))


def task(x, eps=4 / 255, keys=None):
    net = network(x.dtype)
    radii = torch.as_tensor(eps, dtype=x.dtype).expand(x.shape[0])
    keys = keys or tuple((f"pair-{i}", "attack") for i in range(x.shape[0]))
    return Task(x, radii.view(-1, 1, 1, 1), 11, keys, net, net(x), x.flip(-1))


def images(count=2, size=16, dtype=torch.float64):
    g = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, size, size), generator=g).to(dtype) / 255


def objectives():
    by = FeatureDistance(feature_network())
    head = nn.Conv2d(3, 4, 3, padding=1).double()
    return [
        LMSE(),
        PerceptualObjective("features", "test", by),
        Unnoticeable("test", by, 2.0),
        InputClose(),
        InputClose("test", by),
        object_sensitive(box="1,2,9,12", target="4,4,15,10"),
        SegmentationLoss(head, "test"),
    ]


@pytest.mark.parametrize("objective", objectives(), ids=lambda o: o.name)
def test_gradients_are_those_of_finite_differences(objective):
    t = task(images())
    loss = objective.prepare(t)
    z = (t.x + 0.01 * torch.sin(7 * t.x)).requires_grad_()
    assert loss(t.restore(z)).shape == (2,)
    assert torch.autograd.gradcheck(lambda v: loss(t.restore(v)), (z,), eps=1e-6, atol=1e-8, rtol=1e-4, fast_mode=True)


@given(
    algorithm=st.sampled_from(list(ALGORITHMS)),
    norm=st.sampled_from(["linf", "l2"]),
    mask=st.sampled_from(["", "rain", "not-rain", "boxes"]),
    when=st.sampled_from(["each-step", "after"]),
    eps=st.lists(st.floats(2.0**-20, 0.875, width=32), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    size=st.integers(4, 9),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_images_stay_inside_ball_mask_and_range(algorithm, norm, mask, when, eps, dtype, size):
    x = images(len(eps), size, dtype)
    t = task(x, torch.tensor(eps, dtype=dtype))
    chosen = {"boxes": "1,0,3,4"} if mask == "boxes" else {}
    masked = {"mask": mask, "mask_when": when, **chosen} if mask else {}
    attack = make_attack("x", algorithm=algorithm, norm=norm, **masked)
    found = attack.craft(t).images
    assert found.dtype == dtype
    assert found.min() >= 0
    assert found.max() <= 1
    moved = found.double() - x.double()
    free = torch.ones_like(x, dtype=torch.bool)
    if mask:
        free = attack.mask.region(t).expand_as(x)
        assert torch.equal(found[~free], x[~free])
    slack = 0 if dtype == torch.float32 else 1e-15
    if norm == "linf":
        assert (moved.abs() <= t.eps.double() + slack).all()
    else:
        n = (free if when == "each-step" else torch.ones_like(free)).sum((1, 2, 3))
        assert (moved.flatten(1).norm(dim=1) <= t.eps.double().flatten() * n.double().sqrt() * (1 + 1e-9) + slack).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("algorithm", ["fgsm", "pgd", "momentum", "apgd"])
def test_one_step_of_a_batch_is_that_of_each_row(algorithm, norm):
    x, eps = images(3), torch.tensor([1.0, 2.0, 8.0]).double() / 255
    t = task(x, eps)
    short = {} if algorithm == "fgsm" else {"iterations": 1}
    attack = make_attack("x", algorithm=algorithm, norm=norm, keep_best=False, mask="rain", **short)
    alone = [attack.craft(task(x[i : i + 1], eps[i : i + 1], t.keys[i : i + 1])).images for i in range(3)]
    torch.testing.assert_close(attack.craft(t).images, torch.cat(alone), rtol=0, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["i-fgsm", "pgd", "momentum", "apgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_algorithm_beats_noise_of_its_norm(algorithm, norm):
    t = task(images())
    found = make_attack("x", algorithm=algorithm, norm=norm).craft(t)
    corners = make_attack("corners", draws=4).craft(t)
    assert (found.facts["objective"] > 1.2 * corners.facts["objective"]).all()


def test_input_close_and_object_reach_what_they_aim_at():
    t = task(images(), 16 / 255)
    near = [
        (t.restore(make_attack("x", algorithm="pgd", objective=o).craft(t).images) - t.x).square().mean()
        for o in ("input-close", "lmse")
    ]
    assert near[0] < (t.clean_output - t.x).square().mean() < near[1]
    boxes = {"box": "1,2,9,12", "target": "4,4,15,10"}
    attack = make_attack("x", algorithm="pgd", objective="object", mask="boxes", boxes=boxes["box"], **boxes)
    found = attack.craft(t)
    assert (found.facts["objective"] > attack.objective.prepare(t)(t.clean_output)).all()


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"algorithm": "pdg"}, "did you mean 'pgd'"),
        ({"algorithm": "pgd", "objective": "lpisp"}, "did you mean 'lpips'"),
        ({"algorithm": "pgd", "mask": "rian"}, "did you mean 'rain'"),
        ({"algorithm": "pgd", "rain_level": 3}, "no setting 'rain_level'"),
        ({"algorithm": "pgd", "norm": "l1"}, "norm must be one of"),
        ({"algorithm": "pgd", "objective": "features", "net": "nothing"}, "feature network"),
        ({"algorithm": "pgd", "objective": "segmentation", "head": "nothing"}, "head = "),
        ({"algorithm": "pgd", "objective": "segmentation", "against": "truth"}, "own, labels"),
        ({"algorithm": "pgd", "objective": "object"}, "box = "),
        ({"algorithm": "pgd", "mask": "boxes", "boxes": "3,3,1,9"}, "cannot be read"),
        ({"algorithm": "pgd", "objective": "lpips", "trunk": "nowhere.pth"}, "holds no trunk"),
    ],
)
def test_what_cannot_be_composed_is_refused_with_a_reason(given_, words):
    with pytest.raises(DeployRobustError, match=words):
        make_attack("x", **given_)


def test_lpips_without_a_trunk_is_an_error(monkeypatch, tmp_path):
    monkeypatch.delenv("DEPLOY_ROBUST_LPIPS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="nothing is downloaded"):
        LPIPS("vgg")


def photograph(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("net", "expected"), [("alex", 0.767), ("squeeze", 0.473)])
def test_lpips_gives_the_known_distance(data_root, net, expected):
    by = LPIPS(net, str(data_root / "lpips"))
    rain, clean = (by.features(photograph(data_root / "rain100h" / k / "norain-5.png")) for k in ("rain", "norain"))
    assert by.distance(rain, clean).item() == pytest.approx(expected, abs=2e-3)
    assert by.distance(rain, rain).item() == 0


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_the_gradient_of_lpips_is_that_of_finite_differences(data_root, net):
    by, x = LPIPS(net, str(data_root / "lpips")), images(1, 40)
    known = by.features(x.flip(-1))
    assert torch.autograd.gradcheck(
        lambda z: by.distance(by.features(z), known),
        (x.requires_grad_(),),
        eps=1e-7,
        atol=1e-6,
        rtol=1e-3,
        fast_mode=True,
    )
