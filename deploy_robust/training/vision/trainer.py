"""The training loop of vision networks: it can stop after any step and go on as if it had not."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deploy_robust.artefact.files import make_folder
from deploy_robust.errors import RunError, UsageError
from deploy_robust.models.weights_file import weights_sha256
from deploy_robust.training.average import WeightAverage
from deploy_robust.training.schedule import cosine
from deploy_robust.training.state import read_state, write_state
from deploy_robust.training.vision.losses import class_weights, detection_loss, segmentation_loss
from deploy_robust.training.vision.samples import IGNORED, SceneSampler, Seeing
from deploy_robust.training.vision.validation import VisionScore, validate_vision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.models.vision.network import VisionNetwork
    from deploy_robust.training.trainer import Ending
    from deploy_robust.training.vision.samples import LabelledPool, VisionBatch

_SAVE_SHARE = 0.05
"""The state is saved after a step as long as saving took less than this share of the time so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionPlan:
    """Everything that decides where a training leads, beside the network and the data.

    Attributes:
        steps: Optimiser steps in all.
        batch: Crops in a step.
        crop: Side of a crop, pixels.
        seed: Seed of weights, crops and everything else that is drawn.
        rate: AdamW's highest learning rate; half a cosine leads from it to a hundredth.
        warmup: Steps of linear warm-up.
        decay: AdamW's weight decay.
        clip: Longest gradient.
        average: Decay of the moving average of weights that is validated and kept.
        seeing: How far images differ from clean ones.

    Raises:
        UsageError: A value is out of range.
    """

    steps: int
    batch: int = 8
    crop: int = 96
    seed: int = 0
    rate: float = 3e-3
    warmup: int = 50
    decay: float = 1e-4
    clip: float = 5.0
    average: float = 0.99
    seeing: Seeing = field(default_factory=Seeing)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or min(self.rate, self.clip) <= 0 or self.decay < 0:
            raise UsageError("a training needs at least 1 step and 1 crop, a rate and a clip above 0, a decay of 0 up")
        if not 0 <= self.warmup < self.steps or not 0 < self.average < 1:
            raise UsageError(
                f"warm-up must be shorter than the {self.steps} steps and the average's decay lie in (0, 1) "
                f"(got {self.warmup} and {self.average:g})"
            )


@dataclass(frozen=True, slots=True)
class VisionStep:
    """One optimiser step: its number from 1, the terms of the loss before it, seconds so far."""

    step: int
    terms: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class VisionValidated:
    """Scores on the held-out scenes after `step` steps."""

    step: int
    score: VisionScore
    seconds: float


class VisionTrainer:
    """Trains a network in place; see `run`.

    Args:
        network: With fresh weights, from `create_vision`.
        plan: What to do.
        pool: Labelled scenes to learn from.
        held_out: Labelled scenes to validate on.
        folder: Where the state and the log live; made if missing.
        validate_every: Steps between validations; the last step is always followed by one.

    Attributes:
        step: Steps done.
        seconds: CPU seconds spent in all slices so far.
        curve: Validations so far.
    """

    def __init__(
        self,
        network: VisionNetwork,
        plan: VisionPlan,
        pool: LabelledPool,
        held_out: LabelledPool,
        folder: Path,
        *,
        validate_every: int = 500,
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last).train()
        self.plan, self.held_out, self.folder, self.validate_every = plan, held_out, folder, validate_every
        self.averaged = WeightAverage(self.network, plan.average)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=plan.rate, weight_decay=plan.decay)
        self.sampler = SceneSampler(pool, crop=plan.crop, rows=plan.batch, seed=plan.seed, seeing=plan.seeing)
        self._weights = torch.tensor(_weights(pool, len(network.classes)))
        self.step, self.seconds = 0, 0.0
        self.curve: list[VisionValidated] = []
        # A state goes on only with what it began with.
        self._setting = {
            "network": str(network.identity),
            "arguments": json.dumps(dict(network.identity.arguments), sort_keys=True),
            "start": weights_sha256(network.state_dict()),
            "data": pool.digest,
            "plan": json.dumps(asdict(plan), sort_keys=True),
        }

    @property
    def result(self) -> VisionNetwork:
        """The network that is validated and kept."""
        return self.averaged.model

    def resume(self) -> bool:
        """Takes up the newest whole state in the folder; False where there is none.

        Raises:
            RunError: The state belongs to another training, or every state is damaged.
        """
        state, _ = read_state(self.folder)
        if state is None:
            return False
        if differing := [key for key, value in self._setting.items() if state["setting"].get(key) != value]:
            raise RunError(
                f"{self.folder} holds a training with another {', '.join(differing)}: "
                "repeat its options to go on, or choose another folder"
            )
        self.network.load_state_dict(state["model"])
        self.averaged.model.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = [VisionValidated(p["step"], VisionScore(**p["score"]), p["seconds"]) for p in state["curve"]]
        return True

    def run(
        self,
        on_event: Callable[[VisionStep | VisionValidated], None] = lambda _: None,
        *,
        max_minutes: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> Ending:
        """Trains until the plan is done, the slice of wall time is used up, or `stop` says so; then saves the state.

        Args:
            on_event: Called after each step and each validation.
            max_minutes: Length of this slice.
            stop: Asked between steps.

        Raises:
            RunError: The loss is not finite; the last saved state stays.
        """
        make_folder(self.folder)
        began, before, used = time.monotonic(), self.seconds, time.process_time()
        saving, saved = 0.0, -1
        ending: Ending = "finished"
        while self.step < self.plan.steps:
            if stop():
                ending = "interrupted"
                break
            if time.monotonic() - began >= max_minutes * 60:
                ending = "out of time"
                break
            terms = self._train_one_step()
            self.seconds = before + time.process_time() - used
            on_event(VisionStep(self.step, terms, self.seconds))
            if self.step % self.validate_every == 0 or self.step == self.plan.steps:
                score = validate_vision(self.result, self.held_out.pairs)
                self.curve.append(VisionValidated(self.step, score, self.seconds))
                on_event(self.curve[-1])
            now = time.monotonic()
            if saving < _SAVE_SHARE * (now - began):
                self._save()
                saving, saved = saving + time.monotonic() - now, self.step
        if saved != self.step:
            self._save()
        return ending

    def _train_one_step(self) -> dict[str, float]:
        plan = self.plan
        rate = cosine(self.step, steps=plan.steps, peak=plan.rate, final=plan.rate / 100, warmup=plan.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        terms = self._loss(self.sampler.batch(self.step))
        total = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(total)):
            raise RunError(f"the loss became {total.item()} at step {self.step + 1}: train again at a lower rate")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), plan.clip)
        self.optimiser.step()
        self.step += 1
        self.averaged.update(self.network, self.step)
        return {name: term.item() for name, term in terms.items()}

    def _loss(self, batch: VisionBatch) -> dict[str, Tensor]:
        answer = self.network(batch.images.contiguous(memory_format=torch.channels_last))
        if self.network.task == "segmentation":
            return segmentation_loss(answer, batch.classes, self._weights)
        return detection_loss(answer, batch.boxes, self.network.classes)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "setting": self._setting,
            "step": self.step,
            "seconds": self.seconds,
            "curve": [asdict(point) for point in self.curve],
            "model": self.network.state_dict(),
            "average": self.averaged.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        write_state(self.folder, state)


def _weights(pool: LabelledPool, classes: int) -> list[float]:
    """Of the classes in the cross-entropy, by how often the pool shows them."""
    counts = np.zeros(classes, np.int64)
    for pair in pool.pairs:
        assert pair.labels.classes is not None  # noqa: S101  (a pool's pairs have labels)
        shown = pair.labels.classes[pair.labels.classes != IGNORED]
        counts += np.bincount(shown[shown < classes], minlength=classes)
    return class_weights(counts.tolist())
