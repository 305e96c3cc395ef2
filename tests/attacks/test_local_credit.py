"""The search by queries: it finds what is planted, counts what it asks, and depends on nothing but its keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deploy_robust.attacks import ball
from deploy_robust.attacks.attack import Access, Task
from deploy_robust.attacks.local_credit import LocalCredit, _Credit, local_credit, spsa
from deploy_robust.attacks.registry import make_attack
from deploy_robust.attacks.sign_steps import SignSteps
from deploy_robust.errors import UsageError

SIZE = 24


def images(rows: int, seed: int = 0) -> Tensor:
    """8-bit images away from the ends of the range, (rows, 3, SIZE, SIZE)."""
    rng = torch.Generator().manual_seed(seed)
    return (torch.randint(40, 215, (rows, 3, SIZE, SIZE), generator=rng)).to(torch.float32) / 255


def task(restore: Any, rows: int = 2, *, level: float = 2.0, truth: Tensor | None = None) -> Task:
    x = images(rows)
    return Task(
        x=x,
        eps=torch.full((rows, 1, 1, 1), level / 255),
        seed=3,
        keys=tuple((f"pair-{row}", "local-credit", level) for row in range(rows)),
        restore=restore,
        clean_output=restore(x),
        ground_truth=truth,
    )


def edgy(x: Tensor) -> Tensor:
    """An engine that amplifies high frequencies, each pixel by its neighbours alone."""
    kernel = torch.tensor([[-1.0, -1, -1], [-1, 9, -1], [-1, -1, -1]]).view(1, 1, 3, 3).expand(3, 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=3) / 3 + x / 3


def spot(x: Tensor) -> Tensor:
    """Identity, but for one neighbourhood with a gain of 50."""
    y = x.clone()
    y[..., 9:12, 14:17] = 0.5 + 50 * (x[..., 9:12, 14:17] - x[..., 9:12, 14:17].detach().mean((2, 3), keepdim=True))
    return y


def test_it_climbs_several_times_faster_than_the_scalar_loss_where_pixels_depend_on_their_neighbours() -> None:
    """Share of the way from the clean error to the highest one in the ball, which is known for a pixelwise engine."""

    def engine(x: Tensor) -> Tensor:
        return 0.5 + (x - 0.5) * 0.5

    lean = task(engine, level=8.0)
    signs = torch.where(torch.rand(lean.x.shape, generator=torch.Generator().manual_seed(5)) > 0.5, 1.0, -1.0)
    truth = (engine(lean.x) + 0.1 * signs).clamp(0, 1)
    lean = replace(lean, ground_truth=truth)

    def error(x: Tensor) -> Tensor:
        return (engine(x) - truth).square().mean((1, 2, 3))

    highest = error(lean.x - 8 / 255 * signs)
    local, scalar = (
        ((error(attack.craft(lean).images) - error(lean.x)) / (highest - error(lean.x))).min()
        for attack in (local_credit(queries=100, radius=0.7), spsa(queries=100))
    )
    assert local > 0.4
    assert local > 2.5 * scalar, (local, scalar)


def test_a_planted_spot_is_found_and_a_constant_engine_never_degrades() -> None:
    lean = task(spot)
    found = local_credit(queries=60).craft(lean)
    moved = (spot(found.images) - spot(lean.x)).abs().amax(1)
    inside = moved[:, 9:12, 14:17].amax((1, 2))
    assert (inside > 10 * 2 / 255).all()
    constant = task(lambda x: torch.full_like(x, 0.5), truth=images(2, seed=9))
    crafted = local_credit(queries=40).craft(constant)
    at_start, at_end = crafted.facts["psnr_at_1"], crafted.facts["psnr_at_30"]
    assert torch.equal(at_start, at_end)


@pytest.mark.parametrize("level", [1.0, 2.0, 8.0])
def test_results_are_8_bit_corners_of_the_ball_and_of_the_unit_cube(level: float) -> None:
    lean = task(edgy, rows=3, level=level)
    dark = replace(lean, x=(lean.x * 0.02 * 255).round() / 255)
    for each in (lean, dark):
        found = local_credit(queries=40).craft(replace(each, clean_output=edgy(each.x))).images
        codes = found * 255
        assert torch.allclose(codes, codes.round(), atol=1e-4)
        apart = ((codes - each.x * 255).round()).abs()
        assert apart.max() <= level
        assert (apart[(each.x * 255 > 9) & (each.x * 255 < 246)] == level).all()
        assert found.min() >= 0


def test_every_query_is_counted_and_the_budget_holds() -> None:
    asked = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal asked
        asked += x.shape[0]
        return edgy(x)

    lean = task(edgy, rows=3)
    found = local_credit(queries=50).craft(replace(lean, restore=counting))
    assert int(found.facts["queries"].sum()) == asked
    assert (found.facts["queries"] <= 50 + 2 * 8 + 5).all()
    assert (found.facts["queries"] >= 50).all()


def test_a_violated_row_stops_and_the_others_go_on() -> None:
    def second_is_fragile(x: Tensor) -> Tensor:
        return edgy(x)

    lean = task(second_is_fragile, rows=2, truth=images(2))
    # The first image's truth is its own clean output, the second one's is far from everything: violated at once.
    truth = torch.stack([edgy(lean.x)[0].clamp(0, 1), torch.zeros_like(lean.x[1])])
    found = local_credit(queries=60, stop_psnr=15.0).craft(replace(lean, ground_truth=truth))
    assert found.facts["violated"].tolist() == [0.0, 1.0]
    assert found.facts["queries"][1] <= 4
    assert found.facts["queries"][0] >= 60


def test_a_broken_answer_is_worse_than_any_image() -> None:
    def breaks(x: Tensor) -> Tensor:
        y = edgy(x)
        y[1, 0, 3, 3] = torch.nan
        return y

    found = local_credit(queries=20, stop_psnr=1.0).craft(
        replace(task(edgy), restore=lambda x: breaks(x) if x.shape[0] == 2 else edgy(x))
    )
    assert found.facts["violated"].tolist() == [0.0, 1.0]
    assert torch.isfinite(found.facts["objective"]).all()


@pytest.mark.parametrize("budget", [*range(10, 34), 47, 50, 100, 101, 300])
@pytest.mark.parametrize(("radius", "warm"), [(0.0, 4), (1.0, 4), (1.0, 9)])
def test_a_budget_is_spent_exactly(budget: int, radius: float, warm: int) -> None:
    asked = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal asked
        asked += x.shape[0]
        return edgy(x)

    found = local_credit(queries=budget, radius=radius, warm=warm).craft(replace(task(edgy, rows=2), restore=counting))
    assert found.facts["queries"].tolist() == [budget, budget]
    assert asked == 2 * budget


@pytest.mark.parametrize("sound", [10, 30, 100])
@pytest.mark.parametrize(
    "attack", [local_credit(queries=120), local_credit(queries=120, radius=1.0), spsa(queries=120)]
)
def test_what_is_known_at_a_mark_was_found_by_then(attack: LocalCredit, sound: int) -> None:
    """An engine whose answers are perfect until so many queries, and bad from then on."""
    lean, asked = task(edgy, rows=1), 0
    truth = torch.full_like(lean.x, 0.25)

    def ages(x: Tensor) -> Tensor:
        nonlocal asked
        numbers = asked + torch.arange(1, x.shape[0] + 1)
        asked += x.shape[0]
        return truth.repeat(x.shape[0], 1, 1, 1) + 0.5 * (numbers > sound).view(-1, 1, 1, 1)

    facts = attack.craft(replace(lean, restore=ages, ground_truth=truth)).facts
    assert facts[f"psnr_at_{sound}"].item() == pytest.approx(100)
    assert -10 * torch.log10(facts["objective"]).item() == pytest.approx(6.02, abs=0.01)


def test_one_broken_value_in_a_large_image_is_a_violation_without_any_bound() -> None:
    x = images(1).repeat(1, 1, 20, 20)

    def breaks(z: Tensor) -> Tensor:
        y = torch.zeros_like(z)
        y[..., 7, 7] = torch.inf
        return y

    large = replace(task(edgy, rows=1), x=x, restore=breaks, clean_output=torch.zeros_like(x))
    found = local_credit(queries=40).craft(large)
    assert found.facts["violated"].tolist() == [1.0]
    assert found.facts["queries"].tolist() == [4.0]
    assert found.facts["objective"].item() > 1


class Waits(TorchDispatchMode):
    """Counts what would wait for a device: reading a number, or finding out how many values a mask holds."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in {"index", "index_put_", "index_put"} else ()
        self.count += name in self.NAMES or any(each is not None and each.dtype == torch.bool for each in indices)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("radius", [0.7, 1.0])
def test_between_two_looks_nothing_waits_and_nothing_is_brought(radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred queries more, without a look among them, cost no wait and no array from the host."""
    brought = 0
    from_numpy = torch.from_numpy

    def counted(array: Any) -> Tensor:
        nonlocal brought
        brought += 1
        return from_numpy(array)

    monkeypatch.setattr(torch, "from_numpy", counted)
    costs = []
    for queries in (110, 210):  # no mark of the trace between them
        brought = 0
        with Waits() as waits:
            LocalCredit(queries=queries, radius=radius, every=110).craft(task(edgy))
        costs.append((waits.count, brought))
    assert costs[0] == costs[1]
    assert costs[0][0] > 0  # the counter sees the looks


def one_colour(x: Tensor) -> Tensor:
    """An engine that answers to one mixture of the channels alone, pixel by pixel."""
    mixture = (x * torch.tensor([0.8, -0.5, -0.3]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (0.5 + mixture).expand_as(x)


def test_weighing_channels_finds_more_where_they_act_together() -> None:
    """The share of signs that are right; two thirds of each credit are noise of channels that do not matter."""
    lean = task(one_colour, rows=3, truth=images(3, seed=5))
    assert lean.ground_truth is not None
    error = (one_colour(lean.x) - lean.ground_truth).mean(1, keepdim=True)
    best = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1) * error.sign()
    right = [
        float(((LocalCredit(queries=60, filtered=filtered).craft(lean).images - lean.x) * best > 0).float().mean())
        for filtered in (False, True)
    ]
    assert right[1] > right[0] + 0.05, right


def test_weights_are_the_wiener_filter() -> None:
    """Against the textbook: signal over signal and noise, both known, in the limit of many pixels."""
    rng = torch.Generator().manual_seed(0)
    mix, noise = torch.tensor([[2.0, 0.0, 0.0], [1.5, 0.6, 0.0], [-1.0, 0.2, 1.0]]), 0.7
    signal = (mix @ torch.randn(2, 3, 40_000, generator=rng)).view(2, 3, 200, 200)
    credit = _Credit.of(torch.zeros(2, 3, 200, 200), 1.0)
    credit.earned = signal + noise**0.5 * torch.randn(2, 3, 200, 200, generator=rng)
    credit.noise = torch.full((2,), noise)
    assert torch.equal(credit.ahead, credit.earned)  # until then
    credit.weigh()
    of_signal = mix @ mix.T
    textbook = of_signal @ torch.linalg.inv(of_signal + noise * torch.eye(3))
    torch.testing.assert_close(credit.weights, textbook.expand(2, 3, 3), atol=0.02, rtol=0)
    credit.noise = torch.full((2,), 1e3)  # nothing stands out: nothing is thrown away
    credit.weigh()
    torch.testing.assert_close(credit.weights, 0.1 * torch.eye(3).expand(2, 3, 3))
    silent = _Credit.of(torch.zeros(1, 3, 8, 8), 0.0)  # a constant engine, the radius not yet chosen
    silent.weigh()
    assert torch.isfinite(silent.weights).all()


@pytest.mark.parametrize("memory", [0.9, 1.0])
def test_noise_is_the_mean_square_of_credits_without_a_trend(memory: float) -> None:
    rng = torch.Generator().manual_seed(1)
    credit = _Credit.of(torch.zeros(2, 3, 48, 48), 0.7)
    for _ in range(25):
        signs = torch.where(torch.rand(2, 3, 48, 48, generator=rng) > 0.5, 1.0, -1.0)
        credit.add(signs, torch.randn(2, 48, 48, generator=rng), memory)
    torch.testing.assert_close(credit.earned.square().mean((1, 2, 3)), credit.noise, rtol=0.1, atol=0)


def test_signs_drawn_ahead_are_those_of_their_step() -> None:
    keys, like = (("a", 1.0), ("b", 2.0)), torch.zeros(1, 3, 5, 7)
    ahead = SignSteps.draw(7, keys, "local-credit", first=16, count=8, like=like)
    for step in (16, 23):
        assert torch.equal(ahead.at(step), ball.signs(7, keys, "local-credit", step, like=like))
    ahead.keep(torch.tensor([False, True]))
    assert torch.equal(ahead.at(20), ball.signs(7, keys[1:], "local-credit", 20, like=like))


def test_a_row_finds_the_same_alone_and_in_company() -> None:
    both = task(edgy, rows=2)
    alone = replace(both, x=both.x[1:], eps=both.eps[1:], keys=both.keys[1:], clean_output=edgy(both.x)[1:])
    attack = local_credit(queries=60)
    together, single = attack.craft(both).images[1:], attack.craft(alone).images
    assert (together == single).float().mean() > 0.999


def test_settings_round_trip_and_wrong_ones_are_refused() -> None:
    attack = make_attack("local-credit", queries=80, radius=1.0)
    assert isinstance(attack, LocalCredit)
    assert attack.access is Access.QUERIES
    assert make_attack("local-credit", **attack.settings).settings == attack.settings
    for wrong in ({"queries": 3}, {"radius": -1.0}, {"memory": 1.0}, {"step": 0.0}):
        with pytest.raises(UsageError):
            make_attack("local-credit", **wrong)
    with pytest.raises(UsageError, match="engine"):
        attack.craft(replace(task(edgy), restore=None))
