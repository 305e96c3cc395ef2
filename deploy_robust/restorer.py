"""The one wrapper above engines and models: rainy RGB in [0, 1] in, derained RGB out, whatever the engine speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from deploy_robust.artefact.io_description import SMALLEST_SIDE, IODescription
from deploy_robust.errors import DeployRobustError, EngineDefect, UsageError

if TYPE_CHECKING:
    from deploy_robust.artefact.io_description import SizeRule
    from deploy_robust.engine import Capabilities, Engine

_TORCH_DTYPE = {"float32": torch.float32, "float16": torch.float16, "uint8": torch.uint8}


def pad_to_rule(x: Tensor, rule: SizeRule) -> Tensor:
    """Reflect-pads (N, C, H, W) on the right and at the bottom to the nearest size that `rule` accepts; differentiable.

    Raises:
        UsageError: A side is below `SMALLEST_SIDE` pixels, or the rule's fixed size cannot hold the image.
    """
    height, width = x.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise UsageError(
            f"images need at least {SMALLEST_SIDE} pixels a side (got {height}x{width}): use larger images"
        )
    to_height, to_width = rule.padded(height, width)
    # A reflection reaches at most size - 1 pixels, so that a fixed size far above the image takes several.
    while (grow := (to_height - x.shape[-2], to_width - x.shape[-1])) != (0, 0):
        step = (min(grow[0], x.shape[-2] - 1), min(grow[1], x.shape[-1] - 1))
        x = F.pad(x, (0, step[1], 0, step[0]), mode="reflect")
    return x


def to_native(x: Tensor, io: IODescription) -> Tensor:
    """RGB in [0, 1], (N, 3, H, W) float32, to the form that an I/O description tells of, contiguous; differentiable."""
    if io.range != (0.0, 1.0) or any(io.mean) or set(io.std) != {1.0}:
        mean, std = x.new_tensor(io.mean).view(1, 3, 1, 1), x.new_tensor(io.std).view(1, 3, 1, 1)
        low, high = io.range
        x = (x - mean) / std * (high - low) + low
    if io.colour == "BGR":
        x = x.flip(1)
    if io.layout == "NHWC":
        x = x.permute(0, 2, 3, 1)
    if io.dtype == "uint8":
        x = x.round().clamp(0, 255)
    return x.to(_TORCH_DTYPE[io.dtype]).contiguous()


class Restorer:
    """An engine seen through its I/O description.

    Calling it maps a batch (N, 3, H, W), float32 in [0, 1], RGB, to a derained batch of the same shape, float32,
    unclamped and unrounded. Padding to the engine's size rule and cropping back happen here and nowhere else, and
    autograd runs through them where the engine is differentiable.

    Attributes:
        engine: The engine inside.
        io: How the engine takes and gives images.
        draft: The same network in cheaper arithmetic, for attacks to search on; None where there is none.
    """

    def __init__(self, engine: Engine, io: IODescription | None = None, draft: Restorer | None = None) -> None:
        self.engine = engine
        self.draft = draft
        self.io = IODescription() if io is None else io

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self.engine.capabilities

    def __call__(self, x: Tensor) -> Tensor:
        """Derains a batch.

        Raises:
            EngineDefect: The engine failed, or gave another shape or type than an image of the input's size.
            UsageError: The image is too small, or too large for a fixed-size engine.
        """
        height, width = x.shape[-2:]
        x = x.to(self.capabilities.device)
        native = self.to_native(pad_to_rule(x, self.io.size))
        if self.io.batch is None or self.io.batch == native.shape[0]:
            y = self._run(native)
        else:
            y = self._run_in_fixed_batches(native, self.io.batch)
        return self.from_native(y)[..., :height, :width]

    def _run(self, native: Tensor) -> Tensor:
        """One call of the engine, its answer checked; whatever it raises of its own is its defect."""
        try:
            y = self.engine.run(native)
        except DeployRobustError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineDefect("crash", f"the engine raised {type(error).__name__}: {reason}") from error
        _check_answer(y, native)
        return y

    def _run_in_fixed_batches(self, native: Tensor, size: int) -> Tensor:
        """Runs chunks of exactly `size` rows; the last is filled up with copies of its last row, which are dropped."""
        parts = []
        for start in range(0, native.shape[0], size):
            chunk = native[start : start + size]
            missing = size - chunk.shape[0]
            full = torch.cat([chunk, chunk[-1:].expand(missing, *chunk.shape[1:])]) if missing else chunk
            answer = self._run(full)
            parts.append(answer[: chunk.shape[0]])
        return torch.cat(parts)

    def to_native(self, x: Tensor) -> Tensor:
        """RGB in [0, 1], NCHW float32, to the engine's own form."""
        return to_native(x, self.io)

    def from_native(self, y: Tensor) -> Tensor:
        """The engine's own form back to RGB in [0, 1], NCHW float32."""
        io = self.io
        y = y.to(torch.float32)
        if io.layout == "NHWC":
            y = y.permute(0, 3, 1, 2)
        if io.colour == "BGR":
            y = y.flip(1)
        low, high = io.native_output_range
        return y if (low, high) == (0.0, 1.0) else (y - low) / (high - low)

    def close(self) -> None:
        """Releases the engine."""
        self.engine.close()


def _check_answer(y: object, native: Tensor) -> None:
    if not isinstance(y, Tensor):
        raise EngineDefect("dtype", f"the engine answered with {type(y).__name__} and not with one tensor")
    if y.shape != native.shape:
        raise EngineDefect("shape", f"the engine answered {tuple(y.shape)} to an input of {tuple(native.shape)}")
    if not (y.is_floating_point() or y.dtype == torch.uint8):
        raise EngineDefect("dtype", f"the engine answered with {y.dtype}: an image is floating-point or uint8")
