"""What engines over memory that a runtime reads by pointer share: element types, and checks of what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.artefact.onnx_graph import Port

NUMPY = {"float": np.float32, "float16": np.float16, "uint8": np.uint8, "double": np.float64}
"""Element types as ONNX names them, in NumPy."""

TORCH = {"float": torch.float32, "float16": torch.float16, "uint8": torch.uint8, "double": torch.float64}
"""The same in torch."""


def need_memory(name: str, tensor: Tensor, port: Port, device: torch.device) -> None:
    """Refuses a tensor whose pointer would be misread: a pointer says nothing of strides, type and device.

    Raises:
        UsageError: It is not contiguous, of another type, or elsewhere.
    """
    wanted = TORCH.get(port.dtype)
    if tensor.dtype != wanted or not tensor.is_contiguous() or tensor.device != device:
        raise UsageError(
            f"{name} must be contiguous {wanted} on {device} (got {tensor.dtype} on {tensor.device}, strides "
            f"{tensor.stride()}): call the engine through a Restorer"
        )


def undeclared(batch: Tensor, port: Port) -> UsageError | None:
    """The error of a batch of another type or shape than the graph declares; None where it is as declared."""
    declared = port.shape
    fits = batch.dim() == len(declared) and all(n in (None, m) for n, m in zip(declared, batch.shape, strict=True))
    if fits and batch.dtype == TORCH.get(port.dtype):
        return None
    return UsageError(
        f"the graph takes {port} and was given {batch.dtype} {tuple(batch.shape)}: "
        "call it through a Restorer with its I/O description"
    )
