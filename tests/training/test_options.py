"""Accumulation, averaged weights, precision, attacked validation: each alone, and all together across interruptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import UsageError
from deploy_robust.models.checkpoints import weights_sha256
from deploy_robust.models.registry import MODELS
from deploy_robust.training.adversary import Adversary
from deploy_robust.training.average import WeightAverage
from deploy_robust.training.crops import PairPool
from deploy_robust.training.precision import Autocast, cpu_computes_bfloat16
from deploy_robust.training.state import read_state
from deploy_robust.training.trainer import Trainer, TrainingPlan
from deploy_robust.training.validation import AttackedValidation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def make(stripes: Any, tmp_path: Path) -> Any:
    torch.set_num_threads(1)

    def trainer(folder: str, **changes: Any) -> Trainer:
        torch.manual_seed(0)
        options = {"steps": 6, "batch": 4, "crop": 24, "warmup": 1, "validate_every": 3, "loss": "mse", **changes}
        pools = PairPool.of([stripes(4)]), PairPool.of([stripes(2, seed=9)])
        return Trainer(MODELS.create("prenet", "tiny"), TrainingPlan(**options), *pools, tmp_path / folder)

    return trainer


def test_a_batch_in_parts_takes_the_same_step(make: Any) -> None:
    adversary = Adversary(iterations=1)
    whole, parts = make("a", adversary=adversary), make("b", adversary=adversary, accumulate=2)
    for trainer in (whole, parts):
        trainer.run(stop=lambda trainer=trainer: trainer.step == 1)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)


def test_parts_that_do_not_divide_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="equal parts"):
        TrainingPlan(steps=2, batch=4, crop=8, warmup=0, accumulate=3)


def test_averaged_weights_follow_the_recursion() -> None:
    model = MODELS.create("rcdnet", "tiny")
    averaged = WeightAverage(model, 0.3)
    first = next(model.parameters())
    expected = first.detach().clone()
    for step, decay in ((1, 2 / 11), (2, 3 / 12), (3, 0.3)):
        with torch.no_grad():
            first.add_(1.0)
        expected = decay * expected + (1 - decay) * first.detach()
        averaged.update(model, step)
    torch.testing.assert_close(next(averaged.model.parameters()), expected)


def test_everything_together_goes_on_bit_for_bit_after_every_step(make: Any) -> None:
    options = {
        "accumulate": 2,
        "average": 0.9,
        "adversary": Adversary(iterations=1),
        "attacked": AttackedValidation(pairs=1, iterations=2),
    }
    whole = make("whole", **options)
    whole.run()
    for step in range(6):
        part = make("parts", **options)
        assert part.resume() == (step > 0)
        part.run(stop=lambda part=part, step=step: part.step == step + 1)
    assert weights_sha256(part.result.state_dict()) == weights_sha256(whole.result.state_dict())
    assert weights_sha256(part.result.state_dict()) != weights_sha256(part.model.state_dict())
    assert [point.score for point in part.curve] == [point.score for point in whole.curve]
    attacked = whole.curve[-1].score.attacked_psnr
    assert attacked is not None
    assert attacked < whole.curve[-1].score.output_psnr + 1


def test_a_state_is_saved_after_a_step_where_saving_is_cheap(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy_robust.training.loop._SAVE_SHARE", 1e9)
    trainer = make("run")
    saved: list[int] = []

    def stop() -> bool:
        state, _ = read_state(trainer.folder)
        saved.append(0 if state is None else state["step"])
        return False

    trainer.run(stop=stop)
    assert saved == list(range(6))


def test_float16_is_refused_on_a_cpu(make: Any) -> None:
    with pytest.raises(UsageError, match="is for CUDA"):
        make("run", precision="fp16")


def test_bfloat16_is_refused_on_a_cpu_that_does_not_compute_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(UsageError, match="use --precision fp32"):
        make("run", precision="bf16")


@pytest.mark.skipif(not cpu_computes_bfloat16(), reason="this CPU has no AVX512-BF16")
def test_a_training_in_bfloat16_goes_on_bit_for_bit_and_is_not_that_in_float32(make: Any) -> None:
    options = {"precision": "bf16", "adversary": Adversary(iterations=1)}
    whole, other = make("whole", **options), make("other", adversary=Adversary(iterations=1))
    whole.run()
    other.run()
    for step in range(6):
        part = make("parts", **options)
        assert part.resume() == (step > 0)
        part.run(stop=lambda part=part, step=step: part.step == step + 1)
    assert weights_sha256(part.model.state_dict()) == weights_sha256(whole.model.state_dict())
    assert weights_sha256(whole.model.state_dict()) != weights_sha256(other.model.state_dict())
    assert all(weights.dtype == torch.float32 for weights in whole.model.state_dict().values())
    assert abs(whole.curve[-1].score.output_psnr - other.curve[-1].score.output_psnr) < 0.5


def test_autocast_computes_in_bfloat16_and_answers_in_float32() -> None:
    torch.manual_seed(0)
    network = MODELS.create("prenet", "tiny")
    x = torch.rand(1, 3, 16, 16)
    mixed = Autocast(network, "cpu", "bf16")
    y = mixed.training_outputs(x).final
    assert y.dtype == torch.float32
    assert 0 < (y - network(x)).abs().max().item() < 0.05
    assert torch.equal(mixed(x), y)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())
