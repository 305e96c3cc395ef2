"""What users rely on in an attack: it stays inside its ball, does not depend on its batch, and harms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deploy_robust.attacks.ascent import GradientAscent
from deploy_robust.attacks.attack import Access, Task
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.registry import make_attack
from deploy_robust.attacks.steps.sign import SignStep
from deploy_robust.attacks.threat import quantise
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small residual convolution net with curvature; its parameters ask for gradients, as a trained one's do."""
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1)).to(dtype)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(3 * x)

    return Residual().eval()


def eight_bit_images(count: int, size: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, size, size), generator=g).to(dtype) / 255


def task(
    x: Tensor,
    restore: Callable[[Tensor], Tensor] | None = None,
    eps: float | list[float] = 4 / 255,
    truth: Tensor | None = None,
) -> Task:
    radii = [eps] * x.shape[0] if isinstance(eps, float) else eps
    with torch.no_grad():
        clean = None if restore is None else restore(x)
    return Task(
        x=x,
        eps=torch.tensor(radii, dtype=x.dtype).view(-1, 1, 1, 1),
        seed=11,
        keys=tuple((f"pair-{i}", "attack", radius) for i, radius in enumerate(radii)),
        restore=restore,
        clean_output=clean,
        ground_truth=truth,
    )


def row(whole: Task, i: int) -> Task:
    def cut(t: Tensor | None) -> Tensor | None:
        return None if t is None else t[i : i + 1]

    return Task(
        x=whole.x[i : i + 1],
        eps=whole.eps[i : i + 1],
        seed=whole.seed,
        keys=whole.keys[i : i + 1],
        restore=whole.restore,
        clean_output=cut(whole.clean_output),
        ground_truth=cut(whole.ground_truth),
    )


def lmse(t: Task, images: Tensor) -> Tensor:
    assert t.restore is not None
    with torch.no_grad():
        return (t.restore(images) - t.clean_output).square().mean((1, 2, 3))


ALL = [("pgd-lmse", {"iterations": 3}), ("uniform", {}), ("corners", {}), ("corners", {"draws": 3})]


@pytest.mark.parametrize(("name", "chosen"), ALL)
@given(
    eps=st.lists(st.floats(2.0**-20, 0.875, width=32), min_size=1, max_size=3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=25)
def test_images_stay_inside_ball_and_range_to_the_last_bit(name, chosen, eps, height, width, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(len(eps), 3, height, width, generator=g)
    x[torch.rand(x.shape, generator=g) < 0.1] = 0
    x[torch.rand(x.shape, generator=g) < 0.1] = 1
    t = task(x, network(), eps=eps)
    found = make_attack(name, **chosen).craft(t).images
    assert found.dtype == torch.float32
    assert found.shape == x.shape
    assert found.min() >= 0
    assert found.max() <= 1
    # float64 subtracts float32 numbers without rounding upwards.
    assert ((found.double() - x.double()).abs() <= t.eps.double()).all()


@pytest.mark.parametrize(("name", "chosen"), ALL)
@pytest.mark.parametrize("level", [1, 2, 4, 8])
def test_whole_epsilons_of_8_bit_images_stay_inside_after_rounding(name, chosen, level):
    x = eight_bit_images(2)
    found = quantise(make_attack(name, **chosen).craft(task(x, network(), eps=level / 255)).images)
    moved = (found.double() * 255).round() - (x.double() * 255).round()
    assert moved.abs().max() == level


@pytest.mark.parametrize("name", ["uniform", "corners"])
def test_noise_does_not_depend_on_the_batch(name):
    t = task(eight_bit_images(3), eps=[1 / 255, 4 / 255, 4 / 255])
    together = make_attack(name).craft(t).images
    alone = torch.cat([make_attack(name).craft(row(t, i)).images for i in range(3)])
    assert torch.equal(together, alone)
    again = (together - t.x)[1:] / t.eps[1:]
    assert not torch.equal(again[0], again[1])


def test_noise_looks_at_nothing_and_is_spread_as_promised():
    x = torch.full((1, 3, 128, 128), 0.5)
    t = task(x, eps=8 / 255)
    uniform, corners = (make_attack(name).craft(t).images.sub(x) * 255 / 8 for name in ("uniform", "corners"))
    assert make_attack("uniform").access is Access.NOTHING
    assert uniform.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.01)
    assert abs(uniform.mean().item()) < 0.01
    torch.testing.assert_close(corners.abs(), torch.ones_like(corners), rtol=1e-5, atol=0)
    assert abs(corners.mean().item()) < 0.015


def test_of_several_draws_the_worst_is_kept():
    t = task(eight_bit_images(2), network())
    several = make_attack("corners", draws=5)
    assert several.access is Access.QUERIES
    found = several.craft(t)
    torch.testing.assert_close(found.facts["objective"], lmse(t, found.images))
    assert (found.facts["objective"] >= lmse(t, make_attack("corners").craft(t).images)).all()
    with pytest.raises(UsageError, match="needs a network"):
        several.craft(task(t.x))


def test_one_step_of_a_batch_is_that_of_each_row():
    net = network(torch.float64)
    t = task(eight_bit_images(4, dtype=torch.float64), net, eps=[1 / 255, 2 / 255, 4 / 255, 8 / 255])
    attack = make_attack("pgd-lmse", iterations=1, keep_best=False)
    together = attack.craft(t).images
    alone = torch.cat([attack.craft(row(t, i)).images for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_one_step_is_that_of_the_paper():
    """Eq. 2 to 4 written out with finite differences instead of autograd."""
    net = network(torch.float64)
    x = eight_bit_images(1, size=6, dtype=torch.float64)
    t = task(x, net, eps=4 / 255)
    start = _start_of(t)
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        nudge = torch.zeros_like(x).view(-1)
        nudge[i] = 1e-6
        nudge = nudge.view_as(x)
        gradient.view(-1)[i] = (lmse(t, start + nudge) - lmse(t, start - nudge)).item() / 2e-6
    delta = (start + (1 / 255) * gradient.sign() - x).clamp(-4 / 255, 4 / 255)
    expected = (x + delta).clamp(0, 1)
    found = make_attack("pgd-lmse", iterations=1, keep_best=False).craft(t).images
    assert gradient.abs().min() > 1e-9
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def _start_of(t: Task) -> Tensor:
    """The random start, seen through a network that remembers its first input."""
    seen: list[Tensor] = []
    assert t.restore is not None
    net = t.restore

    def watch(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return net(z)

    watched = Task(t.x, t.eps, t.seed, t.keys, watch, t.clean_output, t.ground_truth)
    make_attack("pgd-lmse", iterations=1).craft(watched)
    return seen[0]


@pytest.mark.parametrize("reference", ["clean-output", "clean-output-rounded", "ground-truth", "input"])
def test_gradients_are_those_of_finite_differences(reference):
    net = network(torch.float64)
    x = eight_bit_images(2, size=8, dtype=torch.float64)
    t = task(x, net, truth=x.flip(-1))
    loss = LMSE(reference).prepare(t)
    z = (x + 0.01 * torch.sin(7 * x)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(net(v)), (z,), eps=1e-6, atol=1e-9, rtol=1e-5, fast_mode=True)


def test_references_are_the_images_that_they_are_named_after():
    x = eight_bit_images(1, size=8)
    t = task(x, network(), truth=x.flip(-1))
    assert t.clean_output is not None
    images = {
        "clean-output": t.clean_output,
        "clean-output-rounded": (t.clean_output.clamp(0, 1) * 255).round() / 255,
        "ground-truth": x.flip(-1),
        "input": x,
    }
    for reference, image in images.items():
        assert LMSE(reference).prepare(t)(image).item() == 0
        assert LMSE(reference).prepare(t)(image + 0.5).item() == pytest.approx(0.25)


def test_pgd_beats_noise():
    t = task(eight_bit_images(4), network())
    attacked = make_attack("pgd-lmse").craft(t)
    noise = torch.stack([lmse(t, make_attack(name, draws=4).craft(t).images) for name in ("uniform", "corners")])
    assert (lmse(t, attacked.images) > 1.25 * noise.amax(0)).all()
    assert (attacked.facts["objective"] > attacked.facts["objective_at_start"]).all()
    assert not attacked.facts["dead_start"].any()


def test_the_best_iterate_is_at_least_as_good_as_the_last():
    # A step as large as the ball jumps between corners, so that the last iterate is rarely the best.
    t = task(eight_bit_images(6), lambda z: torch.sin(40 * z), eps=16 / 255)
    best = make_attack("pgd-lmse", step_ratio=1.0, iterations=6).craft(t)
    last = make_attack("pgd-lmse", step_ratio=1.0, iterations=6, keep_best=False).craft(t)
    assert (lmse(t, best.images) >= lmse(t, last.images)).all()
    assert (lmse(t, best.images) > lmse(t, last.images)).any()
    torch.testing.assert_close(best.facts["objective"], lmse(t, best.images))
    assert "objective" not in last.facts


def test_restarts_never_harm_and_differ():
    t = task(eight_bit_images(6), lambda z: torch.sin(40 * z), eps=16 / 255)
    one, three = (make_attack("pgd-lmse", restarts=n, iterations=3).craft(t) for n in (1, 3))
    assert (three.facts["objective"] >= one.facts["objective"]).all()
    assert (three.facts["objective"] > one.facts["objective"]).any()
    torch.testing.assert_close(three.facts["objective"], lmse(t, three.images))


def test_a_quantised_input_that_swallows_the_start_does_not_stop_the_attack():
    """An input quantiser of 1/255 in a straight-through network: half a level of noise leaves no gradient."""

    class Quantised(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):  # type: ignore[no-untyped-def]
            return (z * 255).round() / 255

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            return g

    net = network()
    t = task(eight_bit_images(2), lambda z: net(Quantised.apply(z)), eps=[0.499 / 255, 2 / 255])
    assert t.restore is not None
    found = make_attack("pgd-lmse").craft(t)
    assert found.facts["dead_start"].tolist() == [True, False]
    # The whole ball of the first row rounds to its centre: the search moves, and honestly finds nothing.
    assert found.facts["objective"][0] == 0
    last = make_attack("pgd-lmse", keep_best=False).craft(t).images
    torch.testing.assert_close((last - t.x)[0].abs().max(), torch.tensor(0.499 / 255))


def test_a_dead_start_is_revived_at_a_corner():
    """A network that only answers where the image moved by 0.8 eps on average: uniform starts do not, corners do."""
    x, eps = torch.full((2, 3, 16, 16), 0.5), 4 / 255

    def deaf(z: Tensor) -> Tensor:
        return torch.relu((z - x).abs().mean((1, 2, 3), keepdim=True) - 0.8 * eps).expand_as(z)

    found = make_attack("pgd-lmse", iterations=2).craft(task(x, deaf, eps=eps))
    assert found.facts["dead_start"].all()
    assert (found.facts["objective_at_start"] == 0).all()
    assert (found.facts["objective"] > 0).all()


def test_a_search_from_the_clean_image_is_revived_where_lmse_is_flat():
    t = task(eight_bit_images(2), network())
    settings = {"objective": LMSE(), "step": SignStep(), "iterations": 5, "restarts": 1, "keep_best": True}
    found = GradientAscent(name="i-fgsm", start="zero", **settings).craft(t)
    assert found.facts["dead_start"].all()
    assert (found.facts["objective"] > lmse(t, make_attack("uniform").craft(t).images)).all()


def test_nan_in_one_row_leaves_the_others_alone():
    net = network()
    marker = 0.123

    def breaks(z: Tensor) -> Tensor:
        broken = (z[:, :1, :1, :1] - marker).abs() < 0.05
        return net(z) + torch.where(broken, torch.full_like(z, math.nan) * z, torch.zeros_like(z))

    x = eight_bit_images(3)
    x[:, 0, 0, 0] = 0.9
    sane = task(x, breaks)
    x = x.clone()
    x[1, 0, 0, 0] = marker
    sick = Task(x, sane.eps, sane.seed, sane.keys, breaks, sane.clean_output, None)
    attack = make_attack("pgd-lmse", iterations=4)
    expected, found = attack.craft(sane), attack.craft(sick)
    assert torch.isfinite(found.images).all()
    assert torch.equal(found.images[[0, 2]], expected.images[[0, 2]])
    assert found.facts["objective"][1] == math.inf


def test_parameters_get_no_gradients_and_callers_may_forbid_them():
    net = network()
    with torch.no_grad():
        make_attack("pgd-lmse", iterations=2).craft(task(eight_bit_images(1), net))
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_settings_say_everything():
    attack = make_attack("pgd-lmse", reference="ground-truth", restarts=2)
    assert attack.name == "pgd-lmse-ground-truth"
    assert attack.access is Access.GRADIENTS
    assert attack.settings == {
        "objective": "lmse-ground-truth",
        "reference": "ground-truth",
        "step": "sign",
        "step_ratio": 0.25,
        "iterations": 20,
        "random_start": True,
        "restarts": 2,
        "keep_best": True,
    }


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_attack("pgd-lsme"), "did you mean 'pgd-lmse'"),
        (lambda: make_attack("uniform", steps=3), "no setting 'steps'"),
        (lambda: make_attack("pgd-lmse", iteratons=3), "did you mean 'iterations'"),
        (lambda: make_attack("pgd-lmse", iterations="many"), "whole number"),
        (lambda: make_attack("pgd-lmse", reference="sharp"), "must be one of"),
        (lambda: make_attack("pgd-lmse", iterations=0), "at least one iteration"),
        (lambda: make_attack("pgd-lmse", step_ratio=0), "positive share"),
        (lambda: make_attack("corners", draws=0), "at least one draw"),
        (lambda: make_attack("pgd-lmse").craft(task(eight_bit_images(1))), "differentiable source"),
        (
            lambda: make_attack("pgd-lmse", reference="ground-truth").craft(task(eight_bit_images(1), network())),
            "ground truth",
        ),
        (
            lambda: make_attack("pgd-lmse").craft(task(eight_bit_images(1), lambda z: z.detach() * 1)),
            "no gradients",
        ),
    ],
)
def test_what_cannot_be_attacked_is_refused_with_a_reason(call, words):
    with pytest.raises(UsageError, match=words):
        call()
