"""The GPU as engine and builder see it: its name, streams and graphs, behind an interface without CUDA in it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from deploy_robust.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a plan and a timing cache depend on.

    Attributes:
        name: As the driver gives it.
        capability: Compute capability, like ``9.0``.
        driver: Version of the kernel module; ``unknown`` where the system does not say.
    """

    name: str
    capability: str
    driver: str

    def to_dict(self) -> dict[str, str]:
        """Plain data for records."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


class Device(Protocol):
    """Streams and graphs of one GPU. A stream is whatever `new_stream` gave."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors are."""
        ...

    @property
    def gpu(self) -> Gpu:
        """Which GPU it is."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """Within it TensorRT works on this GPU."""
        ...

    def new_stream(self) -> Any:
        """A stream of its own: on the default one TensorRT synchronises the whole device."""
        ...

    def handle(self, stream: Any) -> int:
        """The number that TensorRT takes for a stream."""
        ...

    def copy(self, to: Tensor, what: Tensor, stream: Any) -> None:
        """Queues a copy on the stream."""
        ...

    def enter(self, stream: Any) -> None:
        """Lets the stream wait for what the caller has queued."""
        ...

    def leave(self, stream: Any) -> None:
        """Lets the caller's stream wait for what is queued on this one."""
        ...

    def hold(self, tensor: Tensor, stream: Any) -> None:
        """Keeps the memory of a tensor until the stream is done with what is queued now."""
        ...

    def settle(self, stream: Any) -> None:
        """Waits, on the host, until the stream is done; never in a loop."""
        ...

    def captured(self, stream: Any, launch: Callable[[], None]) -> Callable[[], None]:
        """Records what `launch` queues on the stream into a graph, without running it; returns its replay."""
        ...


class CudaDevice:
    """The real thing, through torch.

    Args:
        device: Torch device with an index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        major, minor = torch.cuda.get_device_capability(device)
        self._gpu = Gpu(torch.cuda.get_device_name(device), f"{major}.{minor}", driver_version())

    @property
    def torch_device(self) -> torch.device:
        """Where tensors are."""
        return self._device

    @property
    def gpu(self) -> Gpu:
        """Which GPU it is."""
        return self._gpu

    def active(self) -> AbstractContextManager[Any]:
        """Within it TensorRT works on this GPU."""
        return torch.cuda.device(self._device)

    def new_stream(self) -> Any:
        """A stream of its own."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def handle(self, stream: Any) -> int:
        """The ``cudaStream_t``."""
        return int(stream.cuda_stream)

    def copy(self, to: Tensor, what: Tensor, stream: Any) -> None:
        """Copies on the GPU; strides and offsets of `what` may be any."""
        with torch.cuda.stream(stream):
            to.copy_(what, non_blocking=True)

    def enter(self, stream: Any) -> None:
        """Lets the stream wait for the caller's."""
        stream.wait_stream(torch.cuda.current_stream(self._device))

    def leave(self, stream: Any) -> None:
        """Lets the caller's stream wait for this one."""
        torch.cuda.current_stream(self._device).wait_stream(stream)

    def hold(self, tensor: Tensor, stream: Any) -> None:
        """Tells torch's allocator."""
        tensor.record_stream(stream)

    def settle(self, stream: Any) -> None:
        """Waits on the host."""
        stream.synchronize()

    def captured(self, stream: Any, launch: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph; other threads may allocate meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            launch()
        replay: Callable[[], None] = graph.replay
        return replay


def open_device(name: str) -> Device:
    """The GPU of a torch device string.

    Raises:
        UsageError: It names no GPU.
        EnvironmentProblem: torch sees no such GPU.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}: use cuda or cuda:N") from error
    if device.type != "cuda":
        raise UsageError(
            f"a TensorRT plan runs on the GPU that it was built for (got --device {name}): use --device cuda"
        )
    if not torch.cuda.is_available():
        raise EnvironmentProblem(
            "TensorRT needs an NVIDIA GPU and torch sees none: run this on the machine that the plan is for, "
            "or check its ONNX graph here with --device cpu"
        )
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise EnvironmentProblem(f"there is no {name}: torch sees {torch.cuda.device_count()} GPUs, counted from 0")
    return CudaDevice(torch.device("cuda", index))


def driver_version() -> str:
    """Version of NVIDIA's kernel module, as Linux knows it."""
    with contextlib.suppress(OSError):
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip() or "unknown"
    return "unknown"
