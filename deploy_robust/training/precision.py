"""Mixed precision: which arithmetic a step uses, behind the contract of a network."""

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
        UsageError: The name is unknown, or the device has no fast arithmetic of that kind.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"the precision of a training is fp32, bf16 or fp16 (got {precision!r})")
    kind = torch.device(device).type
    if precision == "fp32" or kind == "cuda":
        return
    if kind != "cpu" or precision != "bf16":
        raise UsageError(
            f"mixed precision ({precision}) is for CUDA, and bf16 for CPUs with AVX512-BF16, not for {device}: "
            "use --precision fp32"
        )
    if not cpu_computes_bfloat16():
        raise UsageError(
            "this CPU has no AVX512-BF16, so that bf16 would be slower than fp32 on it: use --precision fp32"
        )


def cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; where it does not, torch converts every value, which costs more."""
    return torch.cpu._is_avx512_bf16_supported()  # no public name in every torch that we take


class Autocast(Derainer):
    """A network computed under autocast: weights and answers are float32, the layers between are not.

    Losses see float32 images and stay outside. It shares its weights with `network`.

    Args:
        network: The network in training.
        device_type: ``cuda`` or ``cpu``.
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
