"""What a network costs: its parameters, and the multiplications of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer

COUNTED_SIZE = (320, 480)
"""Height and width of the image that multiplications are counted for: the training size of Rain100H."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: Trainable values as stored here.
        published_parameters: Trainable values as the publication counts them, unused tensors included.
        gmacs: 1e9 multiply-accumulates for one image; see `gmacs`.
    """

    parameters: int
    published_parameters: int
    gmacs: float


def cost(name: str, preset: str | None = None, **overrides: Any) -> Cost:
    """What a network of the registry costs; neither weights nor an image take memory for it.

    Args:
        name: Name in the registry.
        preset: Preset name; None takes the network's first.
        **overrides: Constructor arguments that replace those of the preset.

    Raises:
        UsageError: Name, preset or an override is unknown, or a value is out of range.
    """
    with torch.device("meta"):
        model = MODELS.create(name, preset, **overrides)
    return Cost(model.parameter_count, model.published_parameter_count, gmacs(model.to("meta")))


def gmacs(model: Derainer) -> float:
    """1e9 multiply-accumulates of convolutions and linear layers for one image of `COUNTED_SIZE`, in evaluation mode.

    The size is raised to what the network accepts. Element-wise arithmetic, pooling and resizing do not count, as in
    the literature.

    Args:
        model: On any device; ``meta`` computes nothing.
    """
    device = next(model.parameters()).device
    training = model.training
    image = torch.empty(1, 3, *model.size_rule.padded(*COUNTED_SIZE), device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    model.train(training)
    return float(counter.get_total_flops()) / 2e9
