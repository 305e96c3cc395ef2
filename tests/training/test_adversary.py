"""The adversarial loss: inside its ball, with the gradients of its formula, and the same bits after an interruption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import RunError, UsageError
from deploy_robust.models.checkpoints import weights_sha256
from deploy_robust.models.registry import MODELS
from deploy_robust.training.adversary import Adversary
from deploy_robust.training.crops import Batch, PairPool
from deploy_robust.training.state import read_state, write_state
from deploy_robust.training.trainer import Trainer, TrainingPlan

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.models.derainer import Derainer


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model() -> Derainer:
    torch.manual_seed(0)
    return MODELS.create("prenet", "tiny").train()


@pytest.fixture
def batch() -> Batch:
    rng = torch.Generator().manual_seed(1)
    clean = torch.rand(3, 3, 24, 24, generator=rng)
    return Batch((clean + 0.2 * torch.rand(clean.shape, generator=rng)).clamp(0, 1), clean, key=(7, 11))


def test_the_inner_attack_stays_in_its_ball_and_moves_the_answer_further_than_its_start(
    model: Derainer, batch: Batch
) -> None:
    clean = model(batch.rainy).detach()
    for adversary in (Adversary(epsilon=4, iterations=1), Adversary(epsilon=4, iterations=6, step_ratio=0.25)):
        attacked = adversary.attack(model, batch, clean)
        assert (attacked - batch.rainy).abs().max() <= 4 / 255 * (1 + 1e-6)
        assert attacked.min() >= 0
        assert attacked.max() <= 1
    start = Adversary(epsilon=4, iterations=1, step_ratio=1e-9).attack(model, batch, clean)
    moved, at_start = ((model(x) - clean).square().mean().item() for x in (attacked, start))
    assert moved > 2 * at_start


def test_it_starts_at_a_draw_from_the_ball_or_at_a_corner_of_it(model: Derainer, batch: Batch) -> None:
    clean = model(batch.rainy).detach()
    inside = Batch(batch.rainy.clamp(0.1, 0.9), batch.clean, key=batch.key)  # no corner is cut by [0, 1]

    def start(**options: Any) -> torch.Tensor:
        still = Adversary(epsilon=4, iterations=1, step_ratio=1e-9, **options)
        return (still.attack(model, inside, clean) - inside.rainy).abs() * 255 / 4

    assert start(start="corners").min() > 1 - 1e-4
    assert torch.equal(start(), start(start="uniform"))
    assert start().mean() == pytest.approx(0.5, abs=0.02)
    one, other = (
        Adversary(start="corners").attack(model, Batch(batch.rainy, batch.clean, key=k), clean) for k in ((7,), (8,))
    )
    assert not torch.equal(one, other)


def test_a_start_at_zero_has_no_gradient_and_is_refused(model: Derainer, batch: Batch) -> None:
    model.eval()
    clean = model(batch.rainy).detach()
    x = batch.rainy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model(x) - clean).square().mean(), x)
    assert not gradient.any()
    with pytest.raises(UsageError, match=r"no gradient there.*uniform or corners"):
        Adversary(start="zero")


def test_the_loss_is_the_formula_and_both_answers_are_moved_unless_the_clean_one_is_detached(
    model: Derainer, batch: Batch
) -> None:
    outputs = model.training_outputs(batch.rainy)
    adversary = Adversary(iterations=2)
    attacked = adversary.attack(model, batch, outputs.final.detach())
    moved = model(attacked) - model(batch.rainy)
    assert adversary(model, batch, outputs).item() == pytest.approx(moved.square().mean().item(), rel=1e-5)
    norm = Adversary(iterations=2, distance="norm")(model, batch, outputs).item()
    assert norm == pytest.approx(moved.square().flatten(1).mean(1).sqrt().mean().item(), rel=1e-4)

    weights = list(model.parameters())
    both = torch.autograd.grad(adversary(model, batch, model.training_outputs(batch.rainy)), weights)
    expected = torch.autograd.grad((model(attacked) - model(batch.rainy)).square().mean(), weights)
    fixed = torch.autograd.grad((model(attacked) - model(batch.rainy).detach()).square().mean(), weights)
    detached = torch.autograd.grad(
        Adversary(iterations=2, detach=True)(model, batch, model.training_outputs(batch.rainy)), weights
    )
    scale = max(float(g.abs().max()) for g in expected)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale) for a, b in zip(both, expected, strict=True))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale) for a, b in zip(detached, fixed, strict=True))
    assert not all(torch.allclose(a, b, rtol=1e-2, atol=1e-3 * scale) for a, b in zip(expected, fixed, strict=True))


def test_the_inner_steps_leave_no_trace_in_running_statistics_and_modes(batch: Batch) -> None:
    torch.manual_seed(0)
    umrl = MODELS.create("umrl", "tiny").train()
    rainy, clean = (torch.nn.functional.interpolate(x, (32, 32)) for x in (batch.rainy, batch.clean))
    wide = Batch(rainy, clean, key=(0,))
    adversary = Adversary(iterations=3)
    before = {name: value.clone() for name, value in umrl.named_buffers()}
    with torch.no_grad():
        clean = umrl.eval()(wide.rainy)
    umrl.train()
    modes = [module.training for module in umrl.modules()]
    outputs = umrl.training_outputs(wide.rainy)
    assert any(not torch.equal(before[name], value) for name, value in umrl.named_buffers()), "no running statistics"
    before = {name: value.clone() for name, value in umrl.named_buffers()}
    from deploy_robust.training.adversary import _evaluating

    with _evaluating(umrl):
        adversary.attack(umrl, wide, clean)
    assert all(torch.equal(before[name], value) for name, value in umrl.named_buffers())
    assert [module.training for module in umrl.modules()] == modes
    assert torch.isfinite(adversary(umrl, wide, outputs))


def test_draws_are_keyed_by_seed_and_step(model: Derainer, batch: Batch) -> None:
    clean, adversary = model(batch.rainy).detach(), Adversary(iterations=1)
    again = Batch(batch.rainy, batch.clean, key=(7, 12))
    assert torch.equal(adversary.attack(model, batch, clean), adversary.attack(model, batch, clean))
    assert not torch.equal(adversary.attack(model, batch, clean), adversary.attack(model, again, clean))


def test_an_interrupted_adversarial_training_equals_an_uninterrupted_one(stripes: Any, tmp_path: Path) -> None:
    def trainer(folder: str, **changes: Any) -> Trainer:
        torch.manual_seed(0)
        adversary = Adversary(iterations=2, **changes)
        plan = TrainingPlan(steps=6, batch=2, crop=24, warmup=1, validate_every=3, adversary=adversary)
        pools = PairPool.of([stripes(4)]), PairPool.of([stripes(2, seed=9)])
        return Trainer(MODELS.create("prenet", "tiny"), plan, *pools, tmp_path / folder)

    whole = trainer("whole")
    whole.run()
    first = trainer("parts")
    asked = iter(range(10))
    assert first.run(stop=lambda: next(asked) == 3) == "interrupted"
    second = trainer("parts")
    assert second.resume()
    assert second.step == 3
    second.run()
    assert weights_sha256(second.model.state_dict()) == weights_sha256(whole.model.state_dict())
    with pytest.raises(Exception, match="another adversary"):
        trainer("parts", epsilon=2).resume()


def test_a_state_from_before_the_start_was_a_choice_goes_on_with_a_uniform_one_only(
    stripes: Any, tmp_path: Path
) -> None:
    def trainer(**options: Any) -> Trainer:
        torch.manual_seed(0)
        adversary = Adversary(iterations=2, **options)
        plan = TrainingPlan(steps=2, batch=1, crop=24, warmup=1, validate_every=2, adversary=adversary)
        pools = PairPool.of([stripes(2)]), PairPool.of([stripes(1, seed=9)])
        return Trainer(MODELS.create("prenet", "tiny"), plan, *pools, tmp_path)

    asked = iter(range(2))
    trainer().run(stop=lambda: next(asked) == 1)
    state, _ = read_state(tmp_path)
    assert state is not None
    before = "{'epsilon': 4.0, 'iterations': 2, 'step_ratio': 0.5, 'distance': 'mse', 'detach': False}"
    write_state(tmp_path, state | {"setting": state["setting"] | {"adversary": before}})
    for same in ({}, {"start": "uniform"}):
        assert trainer(**same).resume()
    with pytest.raises(RunError, match="another adversary"):
        trainer(start="corners").resume()
    assert trainer(start="corners").plan.to_dict()["adversary"]["start"] == "corners"


def test_minimising_the_term_makes_an_amplifying_network_harder_to_move(batch: Batch) -> None:
    torch.manual_seed(0)
    model = MODELS.create("prenet", "tiny").train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    adversary, judge = Adversary(iterations=2), Adversary(iterations=10, step_ratio=0.25)

    def moved() -> float:
        clean = model(batch.rainy).detach()
        return float((model(judge.attack(model, batch, clean)) - clean).square().mean().item())

    before = moved()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(15):
        optimiser.zero_grad()
        adversary(model, batch, model.training_outputs(batch.rainy)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert before > 2 * (4 / 255) ** 2, "the network does not amplify"
    assert moved() < 0.5 * before


@pytest.mark.parametrize(
    "options",
    [{"epsilon": 0}, {"epsilon": 300}, {"iterations": 0}, {"step_ratio": 0}, {"distance": "l1"}, {"start": "north"}],
)
def test_impossible_adversaries_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Adversary(**options)
