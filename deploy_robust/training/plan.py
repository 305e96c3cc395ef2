"""Everything that decides where a training leads, beside the model and the data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import UsageError
from deploy_robust.training.validation import AttackedValidation

if TYPE_CHECKING:
    from deploy_robust.training.adversary import Adversary
    from deploy_robust.training.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Everything that decides where a training leads, beside the model and the data.

    Attributes:
        steps: Optimiser steps in all.
        batch: Crops in a step.
        crop: Side of a crop, pixels.
        seed: Seed of weights, crops and everything else that is drawn.
        loss: As `deploy_robust.training.losses.parse_loss` reads it, or ``paper``, which a `Trainer` spells out.
        rate: Adam's highest learning rate.
        final_rate: Its rate after the last step.
        warmup: Steps of linear warm-up.
        clip: Longest gradient (Euclidean norm over all parameters).
        validate_every: Steps between validations; the last step is always followed by one.
        accumulate: Parts that a batch is computed in, one after the other, to save memory; they divide `batch`.
        average: Decay of the exponential moving average of weights that is validated and kept; 0 keeps the last step.
        precision: ``fp32``, or ``bf16`` or ``fp16`` on CUDA, or ``bf16`` on a CPU with AVX512-BF16.
        attacked: What validations attack, and how.
        adversary: The network is attacked in every step, and what that moves is part of the loss; None trains plainly.
        adversary_weight: Lambda, the weight of that part.

    Raises:
        UsageError: A value is out of range.
    """

    steps: int
    batch: int
    crop: int
    seed: int = 0
    loss: str = "charbonnier"
    rate: float = 2e-3
    final_rate: float = 1e-5
    warmup: int = 100
    clip: float = 1.0
    validate_every: int = 500
    accumulate: int = 1
    average: float = 0.0
    precision: Precision = "fp32"
    attacked: AttackedValidation = field(default_factory=AttackedValidation)
    adversary: Adversary | None = None
    adversary_weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.crop, self.validate_every) < 1:
            raise UsageError("steps, batch, crop and validation interval must be at least 1")
        if not 0 < self.final_rate <= self.rate or self.clip <= 0:
            raise UsageError(
                f"need 0 < final rate <= rate and clip > 0 (got {self.final_rate:g}, {self.rate:g}, {self.clip:g})"
            )
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} does not fall into {self.accumulate} equal parts")
        if not 0 <= self.average < 1:
            raise UsageError(f"the decay of averaged weights lies in [0, 1), 0 for none (got {self.average:g})")
        if not 0 < self.adversary_weight < math.inf:
            raise UsageError(f"the adversary's weight must be a positive number (got {self.adversary_weight:g})")
        if not 0 <= self.warmup < self.steps:
            raise UsageError(f"the warm-up of {self.warmup} steps does not fit into {self.steps} steps: shorten it")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return asdict(self) | {"adversary": None if self.adversary is None else self.adversary.to_dict()}
