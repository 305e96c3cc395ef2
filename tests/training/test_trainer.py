"""Training: it learns, goes on bit for bit where it stopped, and notices damaged states."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.errors import RunError, UsageError
from deploy_robust.models.checkpoints import weights_sha256
from deploy_robust.models.registry import MODELS
from deploy_robust.training.crops import PairPool
from deploy_robust.training.loop import LOG, StepDone, Validated
from deploy_robust.training.state import CURRENT, PREVIOUS
from deploy_robust.training.trainer import Trainer, TrainingPlan

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.models.derainer import Derainer

STEPS = 12


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make(stripes: Any, tmp_path: Path) -> Any:
    def trainer(folder: str, *, width: int = 4, **changes: Any) -> Trainer:
        torch.manual_seed(0)
        options = {"steps": STEPS, "batch": 2, "crop": 24, "warmup": 2, "validate_every": 5, "rate": 5e-3, **changes}
        model: Derainer = MODELS.create("prenet", "tiny", width=width)
        return Trainer(
            model,
            TrainingPlan(**options),
            PairPool.of([stripes(4)]),
            PairPool.of([stripes(2, seed=9)]),
            tmp_path / folder,
        )

    return trainer


def stop_after(steps: int) -> Any:
    """A `stop` that says so once it was asked `steps` times."""
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps


def test_the_loss_falls_and_held_out_pairs_gain(make: Any) -> None:
    trainer = make("run", width=8, steps=100, validate_every=50)
    losses: list[float] = []
    ending = trainer.run(lambda event: losses.append(event.loss) if isinstance(event, StepDone) else None)
    assert ending == "finished"
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert [point.step for point in trainer.curve] == [50, 100]
    assert trainer.curve[-1].score.gain > 1


def test_an_interrupted_training_equals_an_uninterrupted_one(make: Any) -> None:
    whole = make("whole")
    whole.run()
    moments = random.Random(4)
    steps, slices = 0, 0
    while steps < STEPS:
        part = make("parts")
        assert part.resume() == (slices > 0)
        assert part.step == steps
        ending = part.run(stop=stop_after(moments.randint(1, 5)))
        assert ending == ("finished" if part.step == STEPS else "interrupted")
        steps, slices = part.step, slices + 1
    assert slices >= 3
    assert weights_sha256(part.model.state_dict()) == weights_sha256(whole.model.state_dict())
    assert [point.score for point in part.curve] == [point.score for point in whole.curve]


def _lines(trainer: Trainer) -> list[tuple[str, int, float | None]]:
    lines = [json.loads(line) for line in (trainer.folder / LOG).read_text().splitlines()]
    return [(line["kind"], line["step"], line.get("loss")) for line in lines]


def test_the_log_holds_every_step_once_also_after_a_crash(make: Any) -> None:
    whole = make("whole")
    whole.run()
    first = make("parts")
    first.run(stop=stop_after(4))
    # A crash after the last save: two more steps and half a line are in the log, and in no state.
    with (first.folder / LOG).open("a") as log:
        log.write('{"kind": "step", "step": 5, "loss": 1.0}\n{"kind": "step", "step": 6, "loss": 1.0}\n{"kind": "st')
    second = make("parts")
    assert second.resume()
    second.run()
    assert _lines(second) == _lines(whole)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "empty"])
def test_a_damaged_state_is_passed_over_with_a_message(make: Any, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy_robust.training.loop._SAVE_SHARE", 0.0)  # states of the ends of runs only
    make("run").run(stop=stop_after(3))
    later = make("run")
    later.resume()
    later.run(stop=stop_after(4))
    path = later.folder / CURRENT
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-9] ^= 1
        path.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[damage])
    again = make("run")
    assert again.resume()
    assert again.step == 3
    assert bool(again.notes) == (damage != "gone")
    assert all(PREVIOUS in note for note in again.notes)


def test_a_crash_in_the_first_save_after_a_damaged_state_keeps_the_reserve(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy_robust.training.loop._SAVE_SHARE", 0.0)
    make("run").run(stop=stop_after(3))
    later = make("run")
    later.resume()
    later.run(stop=stop_after(4))
    path = later.folder / CURRENT
    path.write_bytes(path.read_bytes()[:-100])
    again = make("run")
    assert again.resume()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as crash:
        crash.setattr("deploy_robust.training.state.write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            again.run(stop=stop_after(1))
    last = make("run")
    assert last.resume()
    assert last.step == 3


def test_two_damaged_states_are_an_error(make: Any) -> None:
    trainer = make("run")
    trainer.run(stop=stop_after(2))
    trainer.run(stop=stop_after(2))
    for name in (CURRENT, PREVIOUS):
        (trainer.folder / name).write_bytes(b"nothing")
    with pytest.raises(RunError, match="remove the folder"):
        make("run").resume()


def test_a_state_of_another_training_is_refused_by_what_differs(make: Any, stripes: Any) -> None:
    make("run").run(stop=stop_after(2))
    with pytest.raises(RunError, match="another rate"):
        make("run", rate=1e-3).resume()
    other = make("run")
    other = Trainer(other.model, other.plan, PairPool.of([stripes(5)]), other.held_out, other.folder)
    with pytest.raises(RunError, match="another data:"):
        other.resume()


def test_a_slice_of_no_time_saves_and_says_so(make: Any) -> None:
    trainer = make("run")
    assert trainer.run(max_minutes=0) == "out of time"
    assert make("run").resume()


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_state(make: Any) -> None:
    trainer = make("run")
    trainer.run(stop=stop_after(2))
    with torch.no_grad():
        trainer.model.decoder.bias.fill_(float("nan"))
    with pytest.raises(RunError, match="lower rate"):
        trainer.run()
    again = make("run")
    assert again.resume()
    assert again.step == 2


def test_validation_leaves_the_mode_of_the_model_alone(make: Any) -> None:
    trainer = make("run", validate_every=1, steps=3)
    modes: list[bool] = []
    trainer.run(lambda event: modes.append(trainer.model.training) if isinstance(event, Validated) else None)
    assert modes == [True] * 3


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}, {"final_rate": 1.0}, {"warmup": 12}, {"clip": 0.0}])
def test_impossible_plans_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainingPlan(**{"steps": STEPS, "batch": 1, "crop": 8, "warmup": 1, **options})
