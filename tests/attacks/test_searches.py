"""What every search by queries must hold, whatever it asks: one table of searches, one test for each promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from deploy_robust.attacks.attack import Access, Task
from deploy_robust.attacks.error_maps import Scalar
from deploy_robust.attacks.local_credit import LocalCredit
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.registry import make_attack
from deploy_robust.errors import UsageError

SIZE = 24
SEARCHES = ("local-credit", "spsa", "square", "stripes", "tiled", "suite", "transfer")


def images(rows: int, seed: int = 0) -> Tensor:
    """8-bit images away from the ends of the range, (rows, 3, SIZE, SIZE)."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(40, 215, (rows, 3, SIZE, SIZE), generator=rng).to(torch.float32) / 255


def task_of(restore: Any, rows: int = 2, *, level: float = 2.0, truth: Tensor | None = None) -> Task:
    x = images(rows)
    return Task(
        x=x,
        eps=torch.full((rows, 1, 1, 1), level / 255),
        seed=3,
        keys=tuple((f"pair-{row}", level) for row in range(rows)),
        restore=restore,
        clean_output=restore(x),
        ground_truth=truth,
        start=x + level / 255,
    )


def sharpened(x: Tensor) -> Tensor:
    """Each value against its left neighbour: exact in every batch."""
    return 3 * x - 2 * x.roll(1, 3)


def spot(x: Tensor) -> Tensor:
    """Half of the image, but for one neighbourhood with a gain of 50 around its own grey level."""
    y = 0.5 * x
    y[..., 9:12, 14:17] = 0.5 + 50 * (x[..., 9:12, 14:17] - images(1)[..., 9:12, 14:17])
    return y


class Recorder:
    """An engine that remembers what each call asked."""

    def __init__(self, restore: Any) -> None:
        self.restore, self.asked, self.calls = restore, 0, []

    def __call__(self, x: Tensor) -> Tensor:
        self.asked += x.shape[0]
        self.calls.append(x.clone())
        return self.restore(x)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("budget", [10, 11, 24, 25, 26, 47, 100, 203])
def test_the_budget_is_spent_exactly_and_every_query_is_counted(name: str, budget: int) -> None:
    engine = Recorder(sharpened)
    found = make_attack(name, queries=budget).craft(replace(task_of(sharpened), restore=engine))
    assert found.facts["queries"].tolist() == [budget, budget]
    assert engine.asked == 2 * budget


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_found_is_an_8_bit_corner_and_as_bad_as_is_said(name: str) -> None:
    task = task_of(sharpened)
    attack = make_attack(name, queries=60)
    assert attack.access is Access.QUERIES
    if name != "spsa":  # its settings say its radius, which is not the user's to set
        assert make_attack(name, **attack.settings).settings == attack.settings
    found = attack.craft(task)
    apart = (found.images - task.x) * 255
    assert torch.allclose(apart.abs(), torch.full_like(apart, 2.0), atol=1e-3)
    assert task.clean_output is not None
    error = (sharpened(found.images).clamp(0, 1) - task.clean_output.clamp(0, 1)).square().mean((1, 2, 3))
    assert torch.allclose(found.facts["objective"], error, rtol=1e-5)
    assert (error >= found.facts["objective_at_start"] * (1 - 1e-5)).all()


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("channels", [1, 3])
def test_outside_the_mask_every_query_and_the_result_are_the_image_to_the_last_bit(name: str, channels: int) -> None:
    task = task_of(sharpened)
    mask = torch.zeros(2, channels, SIZE, SIZE)
    mask[0, :, 4:12, 6:20], mask[1, :, :, 15:] = 1, 1
    engine = Recorder(sharpened)
    found = make_attack(name, queries=40).craft(replace(task, restore=engine, mask=mask)).images
    outside = (mask == 0).expand_as(task.x)
    assert torch.equal(found[outside], task.x[outside])
    assert (found[~outside] != task.x[~outside]).all()
    for asked in engine.calls:
        for part in asked.split(2):
            assert torch.equal(part[outside], task.x[outside])


@pytest.mark.parametrize("name", ["pgd-lmse", "uniform", "corners"])
def test_masks_hold_for_attacks_without_queries_too(name: str) -> None:
    task = task_of(sharpened)
    mask = torch.zeros(2, 1, SIZE, SIZE)
    mask[..., :9] = 1
    found = make_attack(name).craft(replace(task, mask=mask)).images
    assert torch.equal(found[..., 9:], task.x[..., 9:])
    assert not torch.equal(found[..., :9], task.x[..., :9])


@pytest.mark.parametrize("name", SEARCHES)
def test_a_row_asks_the_same_alone_in_company_and_when_repeated(name: str) -> None:
    both = task_of(sharpened)
    alone = replace(
        both,
        **{key: getattr(both, key)[1:] for key in ("x", "eps", "keys", "clean_output", "start")},
    )
    attack = make_attack(name, queries=40)
    company, single, again = Recorder(sharpened), Recorder(sharpened), Recorder(sharpened)
    attack.craft(replace(both, restore=company))
    attack.craft(replace(alone, restore=single))
    attack.craft(replace(alone, restore=again))
    second = [call[1::2] for call in company.calls]
    assert len(second) == len(single.calls) == len(again.calls)
    for one, other, repeated in zip(single.calls, second, again.calls, strict=True):
        assert torch.equal(one, repeated)
        # Reductions over batches of another size may round otherwise, which turns no sign but one of zero credit.
        assert (one == other).float().mean() > 0.999


@pytest.mark.parametrize("name", SEARCHES)
def test_a_planted_spot_is_found_and_a_constant_engine_never_degrades(name: str) -> None:
    task = task_of(spot, rows=1, level=1.0)
    for seed in range(3):
        found = make_attack(name, queries=60).craft(replace(task, seed=seed)).images
        assert task.clean_output is not None
        apart = (spot(found) - task.clean_output).abs().amax(1)
        assert (apart == apart.amax()).nonzero()[0, 1] in range(9, 12)
        assert apart.amax() == pytest.approx(50 / 255, rel=1e-3)
    constant = task_of(lambda x: torch.full_like(x, 0.5), truth=images(2, seed=9))
    facts = make_attack(name, queries=60).craft(constant).facts
    assert torch.equal(facts["psnr_at_1"], facts["psnr_at_30"])


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("bound", [{"stop_psnr": 20.0}, {"stop_drop": 12.0}])
def test_a_row_stops_at_its_first_violation_and_the_others_go_on(name: str, bound: dict[str, float]) -> None:
    """The answers to the second image are black from its seventh query on; the first image is never harmed."""
    asked = 0

    def engine(x: Tensor) -> Tensor:
        nonlocal asked
        y = x.clone()
        for row, image in enumerate(x):
            if (image - images(2)[1]).abs().max() < 0.05:
                asked += 1
                y[row] = image if asked < 7 else 0
        return y

    task = task_of(lambda x: x, truth=images(2) + 0.05)
    found = make_attack(name, queries=60, **bound).craft(replace(task, restore=engine))
    assert found.facts["violated"].tolist() == [0.0, 1.0]
    assert found.facts["queries"][0] == 60
    # Between two looks at a corner are eight pairs of probes at most.
    assert found.facts["queries"][1] == asked <= 7 + 2 * 8 + 1


@pytest.mark.parametrize("name", SEARCHES)
def test_the_image_kept_is_the_first_that_violates(name: str) -> None:
    """Against a truth far away every answer violates: the first query ends the row."""
    task = task_of(sharpened, truth=torch.zeros(2, 3, SIZE, SIZE))
    engine = Recorder(sharpened)
    found = make_attack(name, queries=60, stop_psnr=30.0).craft(replace(task, restore=engine))
    assert found.facts["violated"].tolist() == [1.0, 1.0]
    assert torch.equal(found.images, engine.calls[0])


def test_a_drop_is_measured_against_the_clean_output() -> None:
    task = task_of(sharpened, truth=images(2, seed=4) * 0.1 + images(2) * 0.9)
    assert task.clean_output is not None
    assert task.ground_truth is not None

    def psnr(y: Tensor) -> Tensor:
        assert task.ground_truth is not None
        return -10 * (y.clamp(0, 1) - task.ground_truth).square().mean((1, 2, 3)).log10()

    free = make_attack("local-credit", queries=100).craft(task).images
    drop = float((psnr(sharpened(task.x)) - psnr(sharpened(free))).min()) * 0.8
    found = make_attack("local-credit", queries=100, stop_drop=drop).craft(task)
    assert found.facts["violated"].tolist() == [1.0, 1.0]
    assert (psnr(sharpened(task.x)) - psnr(sharpened(found.images)) >= drop).all()
    assert (found.facts["queries"] < 100).all()
    with pytest.raises(UsageError, match="ground truth"):
        make_attack("suite", stop_drop=3.0).craft(replace(task, ground_truth=None))


def test_a_scalar_objective_is_searched_as_spsa_searches() -> None:
    """Credited with the image's mean, every pixel has what the scalar twin gives it."""
    task = task_of(lambda x: 0.6 * x + 0.3 * x.roll(1, 3))  # inside [0, 1], where both errors are the same
    fallback = LocalCredit(queries=60, radius=float("inf"), error_map=Scalar(LMSE())).craft(task)
    twin = make_attack("spsa", queries=60)
    named = replace(twin, name="local-credit").craft(task)  # type: ignore[type-var]
    assert (fallback.images == named.images).float().mean() > 0.99
    assert torch.allclose(fallback.facts["objective"], named.facts["objective"], rtol=1e-3)


def test_a_row_that_is_done_disturbs_no_other_with_a_scalar_objective() -> None:
    truth = torch.stack([sharpened(images(2))[0].clamp(0, 1), torch.zeros(3, SIZE, SIZE)])
    task = task_of(sharpened, truth=truth)
    attack = LocalCredit(queries=60, stop_psnr=15.0, error_map=Scalar(LMSE("ground-truth")))
    found = attack.craft(task)
    assert found.facts["violated"].tolist() == [0.0, 1.0]
    assert found.facts["queries"][0] == 60


def test_a_transfer_begins_no_weaker_than_its_start_and_needs_one() -> None:
    task = task_of(sharpened)
    strong = torch.where(torch.arange(SIZE) % 2 == 0, 2 / 255, -2 / 255).expand_as(task.x)
    found = make_attack("transfer", queries=30).craft(replace(task, start=task.x + strong))
    assert task.clean_output is not None
    error = (sharpened(task.x + strong).clamp(0, 1) - task.clean_output.clamp(0, 1)).square().mean((1, 2, 3))
    assert torch.allclose(found.facts["objective_at_start"], error, rtol=1e-4)
    with pytest.raises(UsageError, match="source"):
        make_attack("transfer").craft(replace(task, start=None))
