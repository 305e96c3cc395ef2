"""Curves for TensorBoard, read back by TensorBoard itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from deploy_robust.app.train import TrainingData, TrainingRequest, train
from deploy_robust.app.training import Watcher
from deploy_robust.errors import EnvironmentProblem
from deploy_robust.training.loop import StepDone, Validated
from deploy_robust.training.plan import TrainingPlan
from deploy_robust.training.validation import AttackedValidation

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.training.trainer import Event


def request(folder: Path) -> TrainingRequest:
    attacked = AttackedValidation(pairs=1, iterations=1)
    return TrainingRequest(
        model="prenet",
        preset="tiny",
        plan=TrainingPlan(steps=4, batch=1, crop=24, warmup=1, validate_every=2, loss="ssim+l1", attacked=attacked),
        data=TrainingData(what="scenes", pairs=1, size=(32, 32), held_out=1),
        out=folder / "net.safetensors",
        tensorboard=folder / "curves",
    )


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_curves_hold_what_was_told_also_after_an_interruption(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    told: list[Event] = []
    for end in (3, 9):
        assert train(request(tmp_path), Watcher(on_event=told.append, stop=lambda end=end: len(told) >= end))
    curves = read(tmp_path / "curves")
    steps = [event for event in told if isinstance(event, StepDone)]
    scores = [event for event in told if isinstance(event, Validated)]
    assert [step for step, _ in curves["training/loss"]] == [1, 2, 3, 4]
    for tag, values in {
        "training/loss": [event.loss for event in steps],
        "training/rate": [event.rate for event in steps],
        "training/term/ssim": [event.terms["ssim"] for event in steps],
        "training/term/l1": [event.terms["l1"] for event in steps],
        "validation/input_psnr": [event.score.input_psnr for event in scores],
        "validation/output_psnr": [event.score.output_psnr for event in scores],
        "validation/attacked_psnr": [event.score.attacked_psnr for event in scores],
    }.items():
        assert [value for _, value in curves[tag]] == pytest.approx(values), tag
    assert [step for step, _ in curves["validation/output_psnr"]] == [2, 4]


def test_a_new_start_drops_the_curves_of_the_old_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(request(tmp_path))
    train(replace(request(tmp_path), restart=True))
    assert [step for step, _ in read(tmp_path / "curves")["training/loss"]] == [1, 2, 3, 4]


def test_without_the_package_it_says_so_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch.utils.tensorboard", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    drawn: list[int] = []
    with pytest.raises(EnvironmentProblem, match="pip install 'deploy-robust\\[tensorboard\\]'"):
        train(request(tmp_path), Watcher(on_pair=lambda done, _: drawn.append(done)))
    assert not drawn
    assert not list(tmp_path.iterdir())
