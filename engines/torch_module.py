"""A torch module as an engine: the differentiable source of white-box attacks, and the reference of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import Capabilities, EngineOptions, Health
from deploy_robust.errors import EngineDefect, EnvironmentProblem, UsageError
from deploy_robust.models.derainer import Derainer
from deploy_robust.models.layout import fast_layout

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_NO_CUDA = "install a CUDA build of torch and a driver that fits it, or use --device cpu"


class TorchEngine:
    """Runs a module in evaluation mode with frozen parameters; autograd runs through its input.

    The module's own buffers and parameters are moved to `device` and frozen in place: nothing is copied. A network of
    the zoo computes in the layout in which convolutions are fast; another module is given what it may rely on.

    Args:
        module: An image batch in the form of its `IODescription` to one of the same shape.
        device: Torch device string.
        name: What the module is, for the report.

    Raises:
        EnvironmentProblem: The device is not there.
    """

    def __init__(self, module: nn.Module, device: str = "cpu", name: str = "") -> None:
        where = usable_device(device)
        self.module = module.to(where).eval().requires_grad_(False)
        self._layout = fast_layout(where) if isinstance(module, Derainer) else torch.contiguous_format
        self._capabilities = Capabilities(
            runtime=f"torch {torch.__version__}",
            provider=where.type,
            device=str(where),
            threads=torch.get_num_threads() if where.type == "cpu" else None,
            deterministic=where.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
            differentiable=True,
            arithmetic="literal",
            precision=_precision_of(module),
            tags={"module": name or type(module).__name__},
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass, with gradients where `batch` requires them.

        Raises:
            EngineDefect: The module raised, or answered with something else than a tensor.
            EnvironmentProblem: The device has not enough memory.
        """
        try:
            answer: object = self.module(batch.contiguous(memory_format=self._layout))
        except torch.OutOfMemoryError as error:
            raise EnvironmentProblem(
                f"{self._capabilities.device} ran out of memory on a batch of {tuple(batch.shape)}: "
                "use smaller images or batches"
            ) from error
        except Exception as error:
            raise EngineDefect(
                "crash", f"{type(self.module).__name__} failed on {tuple(batch.shape)}: {error}"
            ) from error
        if not isinstance(answer, torch.Tensor):
            raise EngineDefect(
                "dtype", f"{type(self.module).__name__} answered with {type(answer).__name__} and not with one tensor"
            )
        return answer.contiguous() if out is None else out.copy_(answer)

    def close(self) -> None:
        """Nothing to release: the module belongs to the caller."""


@dataclass(frozen=True, slots=True)
class TorchKind:
    """Opens weights files of the zoo."""

    name: str = "torch"
    suffixes: tuple[str, ...] = (".safetensors",)

    def open(self, path: Path, options: EngineOptions) -> tuple[TorchEngine, IODescription]:
        """Builds the network that a weights file names, with its weights.

        Raises:
            CheckpointError: The weights cannot be used.
            EnvironmentProblem: The device is not there.
            UsageError: An option was given that torch has no use for.
        """
        from deploy_robust.models.checkpoints import load_any

        options.refuse("torch", provider="choose with --device", compute="a module computes in its weights' type")
        if options.arithmetic == "fused":
            raise UsageError("torch runs a module's own operators one by one: leave --arithmetic out")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        model, info = load_any(path)
        engine = TorchEngine(model, options.device, name=str(info.identity))
        return engine, options.io or IODescription(size=model.size_rule)

    def health(self) -> list[Health]:
        """Convolves on the CPU and on the first GPU, and compares with the sum that must come out."""
        return [_try_device("cpu"), _try_device("cuda")]


def usable_device(device: str) -> torch.device:
    """The device with its index, after a first allocation on it.

    Raises:
        UsageError: There is no such kind of device.
        EnvironmentProblem: It is not there.
    """
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}: use cpu, cuda or cuda:N") from error
    if where.type == "cuda":
        where = torch.device("cuda", where.index or 0)
    try:
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(f"torch cannot use {device} ({reason}): {_NO_CUDA}") from error
    return where


def _try_device(device: str) -> Health:
    name = f"torch / {device}"
    try:
        where = usable_device(device)
        image = torch.arange(27.0, device=where).reshape(1, 3, 3, 3)
        right = torch.nn.functional.conv2d(image, torch.ones_like(image)).item() == 351.0
    except (EnvironmentProblem, RuntimeError) as error:
        return Health(name, False, str(error).splitlines()[0], "" if device == "cpu" else _NO_CUDA)
    if not right:
        return Health(name, False, "a convolution gave a wrong sum", "reinstall torch")
    detail = torch.__version__ if device == "cpu" else f"{torch.__version__}, {torch.cuda.get_device_name(where)}"
    return Health(name, True, detail)


def _precision_of(module: nn.Module) -> str:
    kinds = {parameter.dtype for parameter in module.parameters()}
    if len(kinds) > 1:
        return "mixed"
    names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    return names.get(kinds.pop(), "unknown") if kinds else "fp32"


KIND = TorchKind()
