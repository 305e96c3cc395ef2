"""An exponential moving average of weights: smoother than the last step, and what is validated and shipped."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """``average <- d * average + (1 - d) * weights`` after each step, d = min(decay, (1 + t) / (10 + t)).

    The rising d lets early weights, which are worse, fade. Buffers (running statistics, counters) are copied.

    Args:
        model: The network in training; the average starts from its weights.
        decay: In (0, 1).

    Attributes:
        model: A network of its own with the averaged weights.
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.decay = decay
        self.model: Network = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Network, step: int) -> None:
        """Takes in the weights after `step` steps, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, weights in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(weights, 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
