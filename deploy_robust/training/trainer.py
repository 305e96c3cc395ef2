"""Training of derainers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch

from deploy_robust.training.crops import CropSampler
from deploy_robust.training.descent import Descent
from deploy_robust.training.loop import StepDone, TrainingLoop, Validated, began_with
from deploy_robust.training.losses import parse_loss
from deploy_robust.training.paper_losses import loss_text
from deploy_robust.training.plan import TrainingPlan
from deploy_robust.training.precision import Autocast, check_precision
from deploy_robust.training.schedule import cosine
from deploy_robust.training.validation import Score, validate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import Batch, PairPool

__all__ = ["Event", "Trainer", "TrainingPlan"]

Event = StepDone | Validated[Score]

_FREE = ("validate_every", "attacked")
"""Parts of a plan that may change between slices: they lead nowhere else."""


class Trainer(TrainingLoop[Score]):
    """Trains a model in place; see `run`.

    Args:
        model: Fresh, or with the weights to start from; moved to `device`.
        plan: What to do.
        pool: Pairs to learn from.
        held_out: Pairs to validate on.
        folder: Where state and log live; made if missing.
        device: Torch device string.
    """

    before: ClassVar[Mapping[str, str]] = {"accumulate": "1", "average": "0.0", "precision": "fp32"}

    def __init__(
        self,
        model: Derainer,
        plan: TrainingPlan,
        pool: PairPool,
        held_out: PairPool,
        folder: Path,
        *,
        device: str = "cpu",
    ) -> None:
        check_precision(plan.precision, device)
        # Channels last is a third faster for these networks, on a CPU as on a GPU; the values are the same tensors.
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        plan = replace(plan, loss=loss_text(plan.loss, model.identity.name))
        self.plan, self.held_out, self.device = plan, held_out, device
        self._computing: Derainer = self.model
        if plan.precision != "fp32":
            self._computing = Autocast(self.model, torch.device(device).type, plan.precision)
        self._loss = parse_loss(plan.loss)
        if plan.adversary is not None:
            self._loss = self._loss.plus("adversary", plan.adversary_weight, plan.adversary)
        self._sampler = CropSampler(pool, size=plan.crop, rows=plan.batch, seed=plan.seed)
        self._descent = Descent(
            self.model,
            torch.optim.Adam(self.model.parameters(), lr=plan.rate),
            rate=partial(cosine, steps=plan.steps, peak=plan.rate, final=plan.final_rate, warmup=plan.warmup),
            clip=plan.clip,
            average=plan.average,
            scaled=plan.precision == "fp16",
        )
        setting = {
            "model": str(model.identity),
            **began_with(model.identity, model.state_dict(), pool.digest),
            **{key: str(value) for key, value in plan.to_dict().items() if key not in _FREE},
        }
        super().__init__(
            folder,
            steps=plan.steps,
            validate_every=plan.validate_every,
            setting=setting,
            changing=self._descent.changing,
            score=Score,
        )

    @property
    def result(self) -> Derainer:
        """The network that is validated and kept: the average where there is one."""
        return self._descent.result

    def _train_one_step(self) -> tuple[float, dict[str, float], float]:
        batch = self._placed(self._sampler.batch(self.step))
        return self._descent.take(
            self.step, batch.parts(self.plan.accumulate), lambda part: self._loss(self._computing, part)
        )

    def _placed(self, batch: Batch) -> Batch:
        """A batch as the network computes it, keyed by seed and step."""
        rainy, clean = (x.to(self.device, memory_format=torch.channels_last) for x in (batch.rainy, batch.clean))
        return replace(batch, rainy=rainy, clean=clean, key=(self.plan.seed, self.step))

    def _validate(self) -> Score:
        return validate(self.result, self.held_out, self.device, self.plan.attacked)
