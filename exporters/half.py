"""Torch network to a float16 or bfloat16 ONNX file with float32 input and output.

The network itself is turned to half precision and traced, so that precision lives in the types of the graph and no
converter guesses: one Cast at each end, and two around each submodule that stays in float32.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from deploy_robust.artefact.exporter import Opening
from deploy_robust.errors import ExportError, UsageError
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.onnx_fp32 import OPSET, to_onnx
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from torch import Tensor

    from deploy_robust.artefact.exporter import Exported, ExportRequest

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_OPSETS = {"fp16": OPSET, "bf16": 22}
"""Convolutions of bfloat16 exist from operator set 22 on."""

_LARGEST_HALF = 65504.0


@dataclass(frozen=True, slots=True)
class Half:
    """The graph in one half-precision type.

    Attributes:
        name: Name for commands.
        opening: How it is verified. ONNX Runtime's CPU kernels know no bfloat16, and compute float16 in float32.
    """

    name: str
    opening: Opening
    target: str = "onnx"
    suffix: str = ".onnx"
    starts_from: str | None = None
    calibrates: bool = False

    @property
    def precision(self) -> str:
        """The same as the name."""
        return self.name

    def export(self, request: ExportRequest) -> Exported:
        """Turns the network to half precision, exports, checks, verifies and renames; see `Exporter.export`.

        Raises:
            ExportError: A weight is beyond float16, or the network cannot be exported.
            UsageError: An island names no submodule.
        """
        return finished(request, self.graph(request), ("torch", "onnx", "onnxscript"))

    def graph(self, request: ExportRequest) -> onnx.ModelProto:
        """The graph in memory."""
        dtype = _HALVES[self.name]
        if dtype is torch.float16:
            _check_weights(request.module, request.settings.keep_fp32)
        network = _HalfInside(request.module, dtype, request.settings.keep_fp32)
        return to_onnx(network, request.size_rule, _OPSETS[self.name])


class _HalfInside(nn.Module):
    """Half precision between a float32 input and a float32 output."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, islands: Sequence[str]) -> None:
        super().__init__()
        self.inner, self.dtype = copy.deepcopy(module).to(dtype), dtype
        if "" in islands:
            raise UsageError("an island needs the name of a submodule: for the whole network, use --precision fp32")
        known = dict(self.inner.named_modules())
        for name in islands:
            if name not in known:
                top = [each for each, _ in self.inner.named_children()]
                raise UsageError(f"the network has no submodule {name!r} to keep in fp32: {instead_of(name, top)}")
        for name in islands:
            parent, _, last = name.rpartition(".")
            setattr(self.inner.get_submodule(parent), last, _Island(module.get_submodule(name), dtype))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x.to(self.dtype))
        return answer.float()


class _Island(nn.Module):
    """A submodule in float32 amid half precision."""

    def __init__(self, module: nn.Module, outside: torch.dtype) -> None:
        super().__init__()
        self.inner, self.outside = copy.deepcopy(module).float(), outside

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer = self.inner(*[x.float() if x.is_floating_point() else x for x in inputs])
        if isinstance(answer, torch.Tensor):
            return answer.to(self.outside)
        return tuple(each.to(self.outside) for each in answer)


def _check_weights(module: nn.Module, islands: Sequence[str]) -> None:
    """float16 turns a larger weight into infinity."""
    for name, weight in module.state_dict().items():
        if name.startswith(tuple(f"{island}." for island in islands)):
            continue
        if weight.is_floating_point() and weight.numel() and float(weight.abs().max()) > _LARGEST_HALF:
            raise ExportError(
                f"{name} holds {float(weight.abs().max()):.3g} and float16 ends at {_LARGEST_HALF:g}: "
                f"keep {name.rpartition('.')[0]} in fp32 (--keep-fp32), or use bf16"
            )


FP16 = Half("fp16", Opening())
BF16 = Half("bf16", Opening(kind="literal"))
