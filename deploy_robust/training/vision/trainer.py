"""Training of vision networks."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.errors import UsageError
from deploy_robust.training.descent import Descent
from deploy_robust.training.loop import StepDone, TrainingLoop, Validated, began_with
from deploy_robust.training.losses import LossValue
from deploy_robust.training.schedule import cosine
from deploy_robust.training.vision.losses import class_weights, detection_loss, segmentation_loss
from deploy_robust.training.vision.samples import IGNORED, SceneSampler, Seeing
from deploy_robust.training.vision.validation import VisionScore, validate_vision

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.models.vision.network import VisionNetwork
    from deploy_robust.training.vision.samples import LabelledPool, VisionBatch

VisionEvent = StepDone | Validated[VisionScore]


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


class VisionTrainer(TrainingLoop[VisionScore]):
    """Trains a network in place; see `run`.

    Args:
        network: With fresh weights, from `create_vision`.
        plan: What to do.
        pool: Labelled scenes to learn from.
        held_out: Labelled scenes to validate on.
        folder: Where the state and the log live; made if missing.
        validate_every: Steps between validations; the last step is always followed by one.
    """

    clock = staticmethod(time.process_time)  # these train on a CPU alone, where it counts what a busy machine does not

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
        self.plan, self.held_out = plan, held_out
        self._sampler = SceneSampler(pool, crop=plan.crop, rows=plan.batch, seed=plan.seed, seeing=plan.seeing)
        self._weights = torch.tensor(_weights(pool, len(network.classes)))
        self._descent = Descent(
            self.network,
            torch.optim.AdamW(self.network.parameters(), lr=plan.rate, weight_decay=plan.decay),
            rate=partial(cosine, steps=plan.steps, peak=plan.rate, final=plan.rate / 100, warmup=plan.warmup),
            clip=plan.clip,
            average=plan.average,
        )
        setting = {
            "network": str(network.identity),
            **began_with(network.identity, network.state_dict(), pool.digest),
            "plan": json.dumps(asdict(plan), sort_keys=True),
        }
        super().__init__(
            folder,
            steps=plan.steps,
            validate_every=validate_every,
            setting=setting,
            changing=self._descent.changing,
            score=VisionScore,
        )

    @property
    def result(self) -> VisionNetwork:
        """The network that is validated and kept."""
        return self._descent.result

    def _train_one_step(self) -> tuple[float, dict[str, float], float]:
        return self._descent.take(self.step, [self._sampler.batch(self.step)], self._loss)

    def _loss(self, batch: VisionBatch) -> LossValue:
        answer = self.network(batch.images.contiguous(memory_format=torch.channels_last))
        if self.network.task == "segmentation":
            terms = segmentation_loss(answer, batch.classes, self._weights)
        else:
            terms = detection_loss(answer, batch.boxes, self.network.classes)
        return LossValue(torch.stack(list(terms.values())).sum(), terms)

    def _validate(self) -> VisionScore:
        return validate_vision(self.result, self.held_out.pairs)


def _weights(pool: LabelledPool, classes: int) -> list[float]:
    """Of the classes in the cross-entropy, by how often the pool shows them."""
    counts = np.zeros(classes, np.int64)
    for pair in pool.pairs:
        assert pair.labels.classes is not None  # noqa: S101  (a pool's pairs have labels)
        shown = pair.labels.classes[pair.labels.classes != IGNORED]
        counts += np.bincount(shown[shown < classes], minlength=classes)
    return class_weights(counts.tolist())
