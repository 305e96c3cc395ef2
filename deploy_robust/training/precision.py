"""Mixed precision on a GPU: which arithmetic a step uses, behind the contract of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["fp32", "bf16", "fp16"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: str) -> None:
    """Refuses what a device does not do well.

    Raises:
        UsageError: The name is unknown, or mixed precision is asked for outside CUDA.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"the precision of a training is fp32, bf16 or fp16 (got {precision!r})")
    if precision != "fp32" and torch.device(device).type != "cuda":
        raise UsageError(f"mixed precision ({precision}) is for CUDA, not for {device}: use --precision fp32")


class Autocast(Derainer):
    """A network computed under autocast: weights and answers are float32, the layers between are not.

    Losses see float32 images and stay outside. It shares its weights with `network`.

    Args:
        network: The network in training.
        device_type: ``cuda``; ``cpu`` in tests.
        precision: ``bf16`` or ``fp16``.
    """

    def __init__(self, network: Derainer, device_type: str, precision: Precision) -> None:
        super().__init__()
        self.network, self.device_type, self.dtype = network, device_type, _TYPES[precision]
        self.identity = network.identity

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Every output of the network as float32."""
        with torch.autocast(self.device_type, dtype=self.dtype):
            outputs = self.network.training_outputs(x)
        return TrainingOutputs(
            [stage.float() for stage in outputs.stages], {name: extra.float() for name, extra in outputs.extras.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        """The final image as float32."""
        with torch.autocast(self.device_type, dtype=self.dtype):
            return self.network(x).float()
