"""Element types as TensorRT, torch and ONNX name them; TensorRT's own map knows only those that NumPy has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Mapping

TORCH: Mapping[str, torch.dtype] = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
    "FP8": torch.float8_e4m3fn,
}
"""Names of ``tensorrt.DataType`` to types of torch. INT4, FP4 and E8M0 have none."""

ONNX: Mapping[str, str] = {"FLOAT": "float", "HALF": "float16", "UINT8": "uint8", "BF16": "bfloat16", "INT8": "int8"}
"""The same to names as `deploy_robust.artefact.onnx_graph.Port` has them."""


def name_of(dtype: Any) -> str:
    """Name of a ``tensorrt.DataType``: numbers changed between versions, names did not."""
    return str(dtype.name)


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch type of a ``tensorrt.DataType``.

    Raises:
        ArtefactError: torch has no such type.
    """
    name = name_of(dtype)
    if name not in TORCH:
        raise ArtefactError(f"TensorRT's type {name} has no counterpart in torch: build the plan with fp32 or fp16 I/O")
    return TORCH[name]


def tensorrt_dtype(trt: Any, dtype: torch.dtype) -> Any:
    """The ``tensorrt.DataType`` of a torch type.

    Raises:
        ArtefactError: TensorRT has no such type.
    """
    for name, known in TORCH.items():
        if known == dtype:
            return getattr(trt.DataType, name)
    raise ArtefactError(f"torch's {dtype} has no counterpart in TensorRT: use float32 or float16")
