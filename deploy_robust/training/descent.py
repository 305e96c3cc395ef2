"""One step of gradient descent: rate, gradient in parts, clip, step, averaged weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import nn

from deploy_robust.errors import RunError
from deploy_robust.training.average import WeightAverage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploy_robust.training.loop import Stateful
    from deploy_robust.training.losses import LossValue

Network = TypeVar("Network", bound=nn.Module)
P = TypeVar("P")


class Descent(Generic[Network]):
    """Takes the steps of a training.

    Args:
        network: Trained in place.
        optimiser: Of its parameters.
        rate: Learning rate of each step, counted from 0.
        clip: Longest gradient (Euclidean norm over all parameters).
        average: Decay of the moving average of weights; 0 keeps none.
        scaled: Whether the loss is scaled, as gradients in float16 need it (CUDA).
    """

    def __init__(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        *,
        rate: Callable[[int], float],
        clip: float,
        average: float,
        scaled: bool = False,
    ) -> None:
        self.network, self.optimiser = network, optimiser
        self._rate, self._clip = rate, clip
        self._averaged = WeightAverage(network, average) if average > 0 else None
        self._scaler = torch.amp.GradScaler("cuda", enabled=scaled)

    @property
    def result(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        return self.network if self._averaged is None else self._averaged.model

    @property
    def changing(self) -> Mapping[str, Stateful]:
        """Everything that a step changes, by name."""
        parts: dict[str, Stateful] = {"model": self.network, "optimiser": self.optimiser}
        if self._averaged is not None:
            parts["average"] = self._averaged.model
        if self._scaler.is_enabled():
            parts["scaler"] = self._scaler
        return parts

    def take(
        self, step: int, parts: Sequence[P], loss_of: Callable[[P], LossValue]
    ) -> tuple[float, dict[str, float], float]:
        """Takes one step on the mean loss of a batch.

        Args:
            step: Its number, from 0.
            parts: The batch in equal parts, computed one after the other.
            loss_of: The loss of one part.

        Returns:
            The loss before the step, its terms, and the learning rate.

        Raises:
            RunError: The loss is not finite; the weights are as before.
        """
        rate = self._rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss, terms = 0.0, dict[str, float]()
        for part in parts:
            value = loss_of(part)
            loss += value.total.item() / len(parts)
            if not math.isfinite(loss):
                raise RunError(f"the loss became {loss} at step {step + 1}: train anew (--restart) at a lower rate")
            self._scaler.scale(value.total / len(parts)).backward()  # type: ignore[no-untyped-call]
            terms = {name: terms.get(name, 0.0) + term.item() / len(parts) for name, term in value.terms.items()}
        self._scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        if self._averaged is not None:
            self._averaged.update(self.network, step + 1)
        return loss, terms, rate
