"""What training minimises: distances between images as pure functions, and losses composed of named terms.

A loss is a weighted sum of terms. A term sees the model, the batch and the model's outputs on it, so that one that
needs more than the final image (stages, side information, an attack of the model itself) is one more term, and nothing
else changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from deploy_robust.errors import UsageError
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from deploy_robust.models.derainer import Derainer, TrainingOutputs
    from deploy_robust.training.crops import Batch

CHARBONNIER_EPS = 1e-3
"""Width of the rounding at zero, in [0, 1] units (MPRNet, CVPR 2021)."""

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
SSIM_SIGMA, SSIM_TAPS = 1.5, 11


def mse(y: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error over all pixels; (N, 3, H, W) twice to a scalar."""
    return (y - clean).square().mean()


def charbonnier(y: Tensor, clean: Tensor) -> Tensor:
    """``mean sqrt((y - clean)^2 + eps^2)``: absolute error with a smooth minimum; a scalar."""
    return ((y - clean).square() + CHARBONNIER_EPS**2).sqrt().mean()


def negative_ssim(y: Tensor, clean: Tensor) -> Tensor:
    """``1 - SSIM`` as the PReNet paper trains: 11x11 gaussian of sigma 1.5, zero padding, [0, 1] range, in float32.

    The score without gradients, in its protocol's roundings, is `deploy_robust.metrics.ssim`.
    """
    distance = torch.arange(SSIM_TAPS, dtype=y.dtype, device=y.device) - SSIM_TAPS // 2
    gauss = torch.exp(-distance.square() / (2 * SSIM_SIGMA**2))
    gauss = gauss / gauss.sum()

    def blur(maps: Tensor) -> Tensor:
        planes = maps.flatten(0, 1)[:, None]  # (N * 3, 1, H, W)
        planes = F.conv2d(planes, gauss.view(1, 1, 1, -1), padding=(0, SSIM_TAPS // 2))
        return F.conv2d(planes, gauss.view(1, 1, -1, 1), padding=(SSIM_TAPS // 2, 0))

    mean_y, mean_b = blur(y), blur(clean)
    means, product = mean_y.square() + mean_b.square(), mean_y * mean_b
    variances = blur(y.square() + clean.square()) - means
    covariance = blur(y * clean) - product
    score = (2 * product + SSIM_C1) * (2 * covariance + SSIM_C2) / ((means + SSIM_C1) * (variances + SSIM_C2))
    return 1.0 - score.mean()


class LossTerm(Protocol):
    """One summand of a loss."""

    def __call__(self, model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
        """A differentiable scalar.

        Args:
            model: The network in training, for terms that need more passes through it.
            batch: What it was given.
            outputs: What it made of it.
        """
        ...


@dataclass(frozen=True, slots=True)
class FinalImage:
    """A distance between the final image and the ground truth."""

    distance: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:  # noqa: ARG002
        """See `LossTerm`."""
        return self.distance(outputs.final, batch.clean)


TERMS: Registry[LossTerm] = Registry("loss")
TERMS.add("mse", FinalImage(mse))
TERMS.add("charbonnier", FinalImage(charbonnier))
TERMS.add("ssim", FinalImage(negative_ssim))


@dataclass(frozen=True, slots=True)
class LossValue:
    """A loss on one batch: the weighted sum, a differentiable scalar, and each term before its weight."""

    total: Tensor
    terms: Mapping[str, Tensor]


class Loss:
    """A weighted sum of terms.

    Attributes:
        terms: Weight and term by name, in order.
    """

    def __init__(self, terms: Mapping[str, tuple[float, LossTerm]]) -> None:
        self.terms = dict(terms)

    def plus(self, name: str, weight: float, term: LossTerm) -> Loss:
        """This loss with one term more."""
        return Loss({**self.terms, name: (weight, term)})

    def __call__(self, model: Derainer, batch: Batch) -> LossValue:
        """One forward pass through the model and all its terms."""
        outputs = model.training_outputs(batch.rainy)
        values = {name: term(model, batch, outputs) for name, (_, term) in self.terms.items()}
        total = torch.stack([weight * values[name] for name, (weight, _) in self.terms.items()]).sum()
        return LossValue(total, {name: value.detach() for name, value in values.items()})


def parse_loss(text: str) -> Loss:
    """``"charbonnier+0.2*ssim"`` to a `Loss`; a term without a weight has weight 1.

    Raises:
        UsageError: A term is unknown or named twice, or a weight is not a positive number.
    """
    terms: dict[str, tuple[float, LossTerm]] = {}
    for part in text.split("+"):
        weight_text, _, name = part.strip().rpartition("*")
        try:
            weight = float(weight_text or 1)
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf:
            raise UsageError(f"a loss reads like charbonnier+0.2*ssim with positive weights (got {text!r})")
        if name.strip() in terms:
            raise UsageError(f"the loss {text!r} names {name.strip()} twice: add the weights up")
        terms[name.strip()] = (weight, TERMS[name.strip()])
    return Loss(terms)
