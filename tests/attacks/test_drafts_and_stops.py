"""Searches on a draft that the network itself judges, and rows that stop at their first violation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
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
