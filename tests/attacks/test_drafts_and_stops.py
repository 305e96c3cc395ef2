"""Searches on a draft that the network itself judges, and rows that stop at their first violation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deploy_robust.attacks.algorithms import ALGORITHMS
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.registry import make_attack
from deploy_robust.errors import UsageError
from deploy_robust.models.draft import Draft

ITERATING = [name for name in ALGORITHMS if name != "fgsm"]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x):
        return x + self.body(3 * x)


class Counted:
    """A network, and how many images it was asked with gradients and without."""

    def __init__(self, network) -> None:
        self.network, self.gradients, self.scores = network, 0, 0

    def __call__(self, x):
        if x.requires_grad:
            self.gradients += x.shape[0]
        else:
            self.scores += x.shape[0]
        return self.network(x)


def task(count: int = 3, levels: tuple[float, ...] = (1, 4, 8), truth: torch.Tensor | None = None) -> Task:
    g = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (count, 3, 16, 16), generator=g).float() / 255
    restore = Counted(Residual().requires_grad_(False))
    eps = torch.tensor(levels).view(-1, 1, 1, 1) / 255
    keys = tuple((f"pair-{i}", "attack") for i in range(count))
    return Task(x, eps, 11, keys, restore, restore.network(x), truth)


def psnr(t: Task, images: torch.Tensor) -> torch.Tensor:
    reference = t.clean_output if t.ground_truth is None else t.ground_truth
    error = (t.restore.network(images).clamp(0, 1) - reference.clamp(0, 1)).square().mean((1, 2, 3))
    return -10 * error.log10()


@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize("restarts", [1, 2])
def test_gradients_are_the_drafts_and_scores_are_the_networks(keep_best, restarts):
    t = task()
    draft = Counted(Draft(t.restore.network, torch.device("cpu")))
    attack = make_attack("pgd-lmse", iterations=5, keep_best=keep_best, restarts=restarts)
    found = attack.craft(replace(t, draft=draft))
    assert (draft.gradients, t.restore.gradients) == (15 * restarts, 0)
    assert t.restore.scores == (6 * restarts if keep_best else 3 * restarts if restarts > 1 else 0)
    if t.restore.scores:
        loss = (t.restore.network(found.images) - t.clean_output).square().mean((1, 2, 3))
        torch.testing.assert_close(found.facts["objective"], loss, rtol=1e-5, atol=0)
    plain = attack.craft(t).images
    assert (psnr(t, found.images) < psnr(t, plain) + 0.5).all()


def test_the_better_of_the_drafts_best_and_the_last_is_returned():
    """A draft that is wrong about which iterate is best costs nothing against the last iterate."""
    t = task()
    wrong = Counted(lambda x: t.clean_output + (t.restore.network(x) - t.clean_output) * 1e-3 * torch.rand(()))
    torch.manual_seed(0)
    found = make_attack("pgd-lmse", iterations=6).craft(replace(t, draft=wrong))
    torch.manual_seed(0)
    last = make_attack("pgd-lmse", iterations=6, keep_best=False, restarts=1).craft(replace(t, draft=wrong))
    score = (t.restore.network(last.images) - t.clean_output).square().mean((1, 2, 3))
    assert (found.facts["objective"] >= score * (1 - 1e-5)).all()


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("algorithm", ITERATING)
def test_a_row_stops_at_its_first_violation_and_costs_nothing_more(algorithm, drafted):
    t = task()
    draft = Counted(Draft(t.restore.network, torch.device("cpu"))) if drafted else None
    bound = psnr(t, make_attack("corners").craft(t).images)[1].item() - 1  # about the strength of the middle epsilon
    attack = make_attack("x", algorithm=algorithm, iterations=12, stop_psnr=bound)
    t.restore.gradients = t.restore.scores = 0
    found = attack.craft(replace(t, draft=draft))
    violated, spent = found.facts["violated"], found.facts["gradients"]
    assert violated.tolist() == [0, 1, 1]
    assert torch.equal(violated.bool(), psnr(t, found.images) < bound)
    assert spent[0] == 12 > spent[1] >= spent[2]
    asked = t.restore if draft is None else draft
    assert asked.gradients == spent.sum() < 36


def test_a_stopped_row_is_the_iterate_at_which_it_stopped():
    t = task()
    free = [make_attack("x", algorithm="pgd", iterations=k, keep_best=False).craft(t).images for k in range(1, 13)]
    path = torch.stack([psnr(t, each)[1] for each in free])
    assert path[5] < path[0] - 1
    bound = path[5].item() + 1e-4
    first = next(k for k in range(12) if path[k] < bound)
    found = make_attack("x", algorithm="pgd", iterations=12, stop_psnr=bound).craft(t)
    torch.testing.assert_close(found.images[1], free[first][1], rtol=0, atol=0)


@settings(max_examples=25, deadline=None)
@given(
    levels=st.lists(st.sampled_from([0.5, 1, 2, 4, 8]), min_size=1, max_size=4),
    restarts=st.integers(1, 2),
    keep_best=st.booleans(),
    never=st.sampled_from([{"stop_drop": math.inf}, {"stop_drop": 1e9}, {"stop_psnr": 1e-6}]),
)
def test_a_stop_that_is_never_reached_changes_no_bit(levels, restarts, keep_best, never):
    t = task(len(levels), tuple(levels), truth=task(len(levels), tuple(levels)).clean_output.clamp(0, 1) * 0.95)
    options = {"iterations": 4, "restarts": restarts, "keep_best": keep_best}
    free, bound = (make_attack("pgd-lmse", **options, **stop).craft(t) for stop in ({}, never))
    assert torch.equal(free.images, bound.images)
    assert not bound.facts["violated"].any()
    assert (bound.facts["gradients"] == 4).all()


@settings(max_examples=25, deadline=None)
@given(
    levels=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=2, max_size=5),
    start=st.sampled_from(["uniform", "corners"]),
    restarts=st.integers(1, 3),
    strength=st.floats(30, 50),
)
def test_what_stops_in_a_batch_leaves_the_others_as_they_are_alone(levels, start, restarts, strength):
    """In float64, where the rounding of batches of other sizes turns no sign."""
    t = task(len(levels), tuple(levels))
    t = replace(t, x=t.x.double(), eps=t.eps.double(), restore=Counted(t.restore.network.double()))
    t = replace(t, clean_output=t.restore.network(t.x))
    attack = make_attack("pgd-lmse", iterations=6, start=start, restarts=restarts, stop_psnr=strength)
    together = attack.craft(t)
    asked = t.restore.gradients
    for i in range(len(levels)):
        row = {"x": t.x[i : i + 1], "eps": t.eps[i : i + 1], "keys": t.keys[i : i + 1]}
        alone = attack.craft(replace(t, **row, clean_output=t.clean_output[i : i + 1]))
        torch.testing.assert_close(together.images[i : i + 1], alone.images, rtol=0, atol=1e-12)
        for name in ("violated", "gradients", "dead_start"):
            assert torch.equal(together.facts[name][i : i + 1], alone.facts[name])
    assert t.restore.gradients == 2 * asked, "an image that had left was asked, or another one was not"


@pytest.mark.parametrize("drafted", [False, True])
def test_an_image_that_is_done_is_asked_neither_for_the_last_look_nor_in_another_restart(drafted):
    t = task()
    draft = Counted(Draft(t.restore.network, torch.device("cpu"))) if drafted else None
    bound = psnr(t, make_attack("corners").craft(t).images)[1].item() - 1
    t.restore.scores = 0
    attack = make_attack("pgd-lmse", iterations=12, restarts=2, stop_psnr=bound)
    found = attack.craft(replace(t, draft=draft))
    assert found.facts["violated"].tolist() == [0, 1, 1]
    asked = t.restore if draft is None else draft
    assert asked.gradients == 24 + found.facts["gradients"][1:].sum()
    # Each search ends with a look at the open row; a draft's best is scored too, and what it finds must be confirmed.
    assert t.restore.scores == 2 if draft is None else t.restore.scores >= 4 + 2
    loss = (t.restore.network(found.images) - t.clean_output).square().mean((1, 2, 3))
    torch.testing.assert_close(found.facts["objective"], loss, rtol=1e-5, atol=0)


def test_the_built_in_attack_stops_as_the_composed_one_does():
    t, stop = task(), {"iterations": 8, "stop_psnr": 45.0, "start": "corners"}
    built_in, composed = make_attack("pgd-lmse", **stop), make_attack("x", algorithm="pgd", **stop)
    assert built_in.settings == composed.settings
    assert torch.equal(built_in.craft(t).images, composed.craft(t).images)


def test_a_drop_is_counted_from_the_clean_output_and_restarts_end_with_the_first_violation():
    truth = task().clean_output.clamp(0, 1) * 0.95
    t = replace(task(truth=truth), eps=torch.full((3, 1, 1, 1), 8 / 255))
    attack = make_attack("x", algorithm="pgd", restarts=3, stop_drop=0.5)
    found = attack.craft(t)
    assert (found.facts["violated"] == 1).all()
    assert (psnr(t, found.images) < psnr(t, t.x) - 0.5).all()
    assert found.facts["gradients"].max() < 20
    assert t.restore.gradients == found.facts["gradients"].sum(), "no second start"
    with pytest.raises(UsageError, match="ground truth"):
        attack.craft(task())


def test_what_contradicts_an_early_stop_is_refused():
    with pytest.raises(UsageError, match="may undo"):
        make_attack("x", algorithm="pgd", mask="rain", mask_when="after", stop_psnr=20)
    with pytest.raises(UsageError, match="are in dB"):
        make_attack("x", algorithm="pgd", stop_drop=-1)
    with pytest.raises(UsageError, match="are in dB"):
        make_attack("pgd-lmse", stop_psnr=math.nan)
