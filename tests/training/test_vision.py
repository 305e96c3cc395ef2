"""Training of vision networks: targets, samples, resuming bit for bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from deploy_robust.data.pairs import Box
from deploy_robust.data.scenes import SceneSource
from deploy_robust.errors import InputError, RunError, UsageError
from deploy_robust.models.vision.centres import centres
from deploy_robust.models.vision.registry import create_vision
from deploy_robust.models.weights_file import weights_sha256
from deploy_robust.training.loop import LOG
from deploy_robust.training.state import CURRENT, PREVIOUS
from deploy_robust.training.vision.losses import class_weights, detection_loss, segmentation_loss, targets
from deploy_robust.training.vision.samples import IGNORED, LabelledPool, SceneSampler, Seeing
from deploy_robust.training.vision.trainer import VisionPlan, VisionTrainer

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.training.vision.trainer import VisionEvent

BOXES = [[Box("person", 4, 6, 10, 26), Box("car", 20, 20, 30, 30)], []]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pool() -> LabelledPool:
    return LabelledPool.of([SceneSource(3, size=(48, 48), split="train"), SceneSource(2, size=(32, 40), split="train")])


@pytest.fixture
def make(pool: LabelledPool, tmp_path: Path) -> Any:
    def trainer(folder: str, name: str = "segmenter", width: int = 4, **changes: Any) -> VisionTrainer:
        torch.manual_seed(0)
        network = create_vision(name, "tiny", widths=(width,) * 4, top=width)
        plan = VisionPlan(**{"steps": 8, "batch": 2, "crop": 32, "warmup": 1, **changes})
        held_out = LabelledPool.of([SceneSource(2, size=(48, 48), split="validation")])
        return VisionTrainer(network, plan, pool, held_out, tmp_path / folder, validate_every=4)

    return trainer


def test_targets_read_back_as_the_boxes() -> None:
    heat, sides, weight = targets(BOXES, ("person",), (32, 32))
    assert heat.shape == (2, 1, 32, 32)
    assert float(heat[0].max()) == 1.0
    assert float(heat[1].abs().max()) == 0.0
    assert weight.sum((1, 2)).tolist() == pytest.approx([1.0, 0.0])
    perfect = torch.cat((torch.where(heat == 1, 5.0, -9.0), sides), 1)
    (found, nothing) = centres(perfect, 1, threshold=0.5, most=5)
    assert found.corners.tolist() == [[4.0, 6.0, 10.0, 26.0]]
    assert len(nothing.scores) == 0


def test_the_detection_loss_is_least_at_its_target() -> None:
    heat, sides, _ = targets(BOXES, ("person",), (32, 32))
    right = torch.cat((torch.where(heat == 1, 9.0, -9.0), sides.clamp(min=0.1)), 1)
    off = right.clone()
    off[:, 1:] += 2.0
    at_target, beside = (detection_loss(answer, BOXES, ("person",)) for answer in (right, off))
    assert float(at_target["boxes"]) == pytest.approx(0.0, abs=1e-5)
    assert float(beside["boxes"]) > 0.1
    assert float(at_target["centres"]) < 0.01
    empty = detection_loss(right[1:], BOXES[1:], ("person",))
    assert float(empty["boxes"]) == 0.0


def test_the_segmentation_loss_looks_past_ignored_pixels() -> None:
    classes = torch.tensor([[[0, 1], [IGNORED, 1]]])
    scores = torch.zeros(1, 3, 2, 2)
    scores[0, 0, 0, 0] = scores[0, 1, :, 1] = 30.0
    weights = torch.ones(3)
    for wild in (0.0, 50.0):
        scores[0, 2, 1, 0] = wild
        found = segmentation_loss(scores, classes, weights)
        assert float(sum(found.values())) == pytest.approx(0.0, abs=1e-5)


def test_rare_classes_weigh_more_up_to_a_limit() -> None:
    common, rare, absent = class_weights([10_000, 400, 0])
    assert common < rare < absent == 8.0
    assert rare / common == pytest.approx((10_000 / 400) ** 0.5)


def test_crops_keep_labels_and_boxes_on_their_pixels() -> None:
    """Painted by class, an image says what its labels should say, wherever it is cut and whether it is mirrored."""
    source = SceneSource(1, size=(48, 48), split="train")[0]
    assert source.labels.classes is not None
    painted = np.repeat(source.labels.classes[..., None], 3, 2)
    from dataclasses import replace

    sampler = SceneSampler(
        LabelledPool([replace(source, clean=painted, rainy=painted)]),
        crop=32,
        rows=6,
        seed=0,
        seeing=Seeing(rain=0, noise=0, light=0),
    )
    batch = sampler.batch(0)
    assert torch.equal((batch.images[:, 0] * 255).round().long(), batch.classes)
    for classes, boxes in zip(batch.classes, batch.boxes, strict=True):
        for box in boxes:
            inside = classes[box.y0 : box.y1, box.x0 : box.x1]
            assert bool((inside == source.labels.class_names.index(box.label)).any())


def test_images_differ_from_clean_ones_and_stay_near_them(pool: LabelledPool) -> None:
    plain, seen = (
        SceneSampler(pool, crop=32, rows=8, seed=0, seeing=seeing).batch(0).images
        for seeing in (Seeing(rain=0, noise=0, light=0), Seeing())
    )
    apart = (plain - seen).abs().mean((1, 2, 3))
    assert 0 < float(apart.mean()) < 0.1


@pytest.mark.parametrize("name", ["segmenter", "detector"])
def test_an_interrupted_training_goes_on_bit_for_bit(make: Any, name: str) -> None:
    whole = make("whole", name)
    assert whole.run() == "finished"
    asked = iter(range(100))
    first = make("parts", name)
    assert first.run(stop=lambda: next(asked) == 3) == "interrupted"
    second = make("parts", name)
    assert second.resume()
    assert second.step == 3
    assert second.run() == "finished"
    assert weights_sha256(second.result.state_dict()) == weights_sha256(whole.result.state_dict())
    assert [point.step for point in second.curve] == [4, 8]
    assert repr(second.curve[-1].score) == repr(whole.curve[-1].score)


def test_a_killed_training_goes_on_bit_for_bit_from_its_last_save(make: Any, tmp_path: Path) -> None:
    whole = make("whole", average=0.5)
    whole.run()

    def killed(event: VisionEvent) -> None:
        if event.step == 5:
            raise SystemExit  # between two saves: step 5 is done and in the log, and no state knows of it

    with pytest.raises(SystemExit):
        make("parts", average=0.5).run(killed)
    with (tmp_path / "parts" / LOG).open("a") as log:
        log.write('{"kind": "st')
    again = make("parts", average=0.5)
    assert again.resume()
    assert 1 <= again.step <= 4  # how often is a matter of what saving costs
    assert not again.notes
    again.run()
    for network in ("network", "result"):
        ours, theirs = (weights_sha256(getattr(trainer, network).state_dict()) for trainer in (again, whole))
        assert ours == theirs
    assert _log(again) == _log(whole)
    assert [line["step"] for line in _log(whole)] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]


def _log(trainer: VisionTrainer) -> list[dict[str, Any]]:
    """The lines of the log without times; strict JSON, so that any reader takes them."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (trainer.folder / LOG).read_text()
    return [{**json.loads(line, parse_constant=refuse), "seconds": 0} for line in text.splitlines()]


def test_a_damaged_state_is_passed_over_with_a_message(make: Any) -> None:
    for _ in range(2):
        trainer = make("run")
        trainer.resume()
        trainer.run(max_minutes=0)
    path = trainer.folder / CURRENT
    path.write_bytes(path.read_bytes()[:-100])
    again = make("run")
    assert again.resume()
    assert [PREVIOUS in note for note in again.notes] == [True]


def test_a_state_of_another_training_is_refused(make: Any) -> None:
    make("run", steps=2).run()
    with pytest.raises(RunError, match="another plan"):
        make("run", steps=3).resume()


def test_pairs_without_labels_and_plans_out_of_range_are_refused(pool: LabelledPool) -> None:
    from deploy_robust.data.photographs import PhotoSource

    with pytest.raises(InputError, match="no labels"):
        LabelledPool.of([PhotoSource(1, size=(32, 32))])
    with pytest.raises(UsageError, match="warm-up"):
        VisionPlan(steps=5, warmup=5)
    with pytest.raises(UsageError, match="rain in"):
        Seeing(rain=2.0)
    with pytest.raises(UsageError, match="at least 32 pixels"):
        SceneSampler(pool, crop=8, rows=1, seed=0, seeing=Seeing())


def test_it_learns(make: Any) -> None:
    trainer = make("long", width=12, steps=60, batch=4, warmup=5, rate=1e-2)
    losses: list[float] = []
    trainer.run(lambda event: losses.append(sum(event.terms.values())) if hasattr(event, "terms") else None)
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
