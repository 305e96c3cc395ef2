"""TensorRT plans on torch tensors that stay on the GPU; nothing passes through the host, which waits for nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.hashing import identity_of
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.artefact.onnx_graph import GraphFacts, inspect
from deploy_robust.artefact.side_files import within
from deploy_robust.artefact.vouching import vouched_bytes
from deploy_robust.engine import UNKNOWN, Capabilities, EngineOptions, Health
from deploy_robust.engines.tensorrt_slots import NotCapturable, Slot
from deploy_robust.errors import (
    ArtefactError,
    DeployRobustError,
    EngineDefect,
    EnvironmentProblem,
    UsageError,
    first_line,
)
from deploy_robust.tensorrt import device as devices
from deploy_robust.tensorrt.build_record import read_record
from deploy_robust.tensorrt.calls import TensorRTFailure, logger_of
from deploy_robust.tensorrt.loading import INSTALL, created, load
from deploy_robust.tensorrt.plan import deserialise
from deploy_robust.tensorrt.profiles import nearest

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.artefact.manifest import Manifest
    from deploy_robust.tensorrt.build_record import BuildRecord
    from deploy_robust.tensorrt.device import Device
    from deploy_robust.tensorrt.plan import LivePlan

_SLOTS = 2


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer that a slot is still at work on.

    Attributes:
        answer: Where it will be; read it after `result` only.
        slot: Who is at work.
    """

    answer: Tensor
    slot: Slot

    def result(self) -> Tensor:
        """The answer: from here on the caller's stream waits for it, and the host does not."""
        self.slot.device.leave(self.slot.stream)
        return self.answer


class TensorRTEngine:
    """A plan behind the engine protocol.

    Two slots take turns. Each has a stream of its own, static buffers and, for each shape, a context whose launch is
    captured in a CUDA graph. `run` makes the caller's stream wait for the answer; `submit` leaves that to the caller,
    so that two batches can be in flight.

    Args:
        trt: The module ``tensorrt``.
        content: The plan's bytes; somebody has answered for them.
        device: The GPU.
        precision: Of the graph that the plan was built from.
        record: How it was built; None where nobody knows.

    Raises:
        ArtefactError: TensorRT refuses the plan, or it is none from one image to one image.
        EnvironmentProblem: TensorRT gives no runtime.
    """

    def __init__(
        self,
        trt: Any,
        content: bytes,
        device: Device,
        precision: str = UNKNOWN,
        record: BuildRecord | None = None,
    ) -> None:
        self._device = device
        with device.active():
            self._plan = deserialise(trt, content)
            self._slots = self._new_slots()
            self._capture, launch = self._probe()
        self._turn = 0
        self._capabilities = Capabilities(
            runtime=f"tensorrt {trt.__version__}",
            provider=device.gpu.name,
            device=str(device.torch_device),
            threads=None,
            deterministic=False,
            differentiable=False,
            arithmetic="fused",
            precision=precision,
            tags={
                "input": str(self._plan.image),
                "profiles": "; ".join(map(str, self._plan.profiles)),
                "launch": launch,
                "flags": "unknown" if record is None else ", ".join(record.flags) or "none",
            },
        )

    def _new_slots(self) -> list[Slot]:
        return [Slot(self._plan, self._device) for _ in range(_SLOTS)]

    def _probe(self) -> tuple[bool, str]:
        """Runs the shape that the plan was tuned for, and finds out whether its launch can be captured."""
        shape = self._plan.profiles[0].best
        try:
            for slot in self._slots:
                slot.program(0, shape, capture=True)
        except NotCapturable as error:
            self._slots = self._new_slots()
            return False, f"queued anew for each batch: {error}"
        except (TensorRTFailure, EngineDefect, torch.OutOfMemoryError) as error:
            self._slots = self._new_slots()
            return (
                True,
                f"not verified: {first_line(error)}",
            )  # a plan that fails on a black image is the check's to judge
        return True, "one CUDA graph for each shape"

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    @property
    def plan(self) -> LivePlan:
        """The deserialised plan, for what it says of itself and for benchmarks of what this wrapper costs."""
        return self._plan

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass; the host does not wait.

        Raises:
            EngineDefect: TensorRT failed on an input inside its profiles.
            EnvironmentProblem: The GPU has not enough memory.
            UsageError: Type, shape or device are not the plan's, or the engine is closed.
        """
        return self.submit(batch, out).result()

    def submit(self, batch: Tensor, out: Tensor | None = None) -> Pending:
        """Queues a batch on the slot whose turn it is.

        Args:
            batch: As for `run`; not to be written to before `Pending.result`.
            out: As for `run`.

        Returns:
            What becomes the answer. The third call waits, on the GPU, for the first.

        Raises:
            EngineDefect: TensorRT failed on an input inside its profiles.
            EnvironmentProblem: The GPU has not enough memory.
            UsageError: Type, shape or device are not the plan's, or the engine is closed.
        """
        if not self._slots:
            raise UsageError("this engine is closed")
        shape = tuple(batch.shape)
        self._need(batch, "the input", self._plan.image_dtype)
        profile = nearest(self._plan.profiles, shape)
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % _SLOTS
        try:
            program = slot.program(profile, shape, capture=self._capture)
            if out is None:
                out = torch.empty(program.answer.shape, dtype=program.answer.dtype, device=batch.device)
            else:
                self._need(out, "out", program.answer.dtype)
            if out.shape != program.answer.shape:
                raise UsageError(
                    f"out must have the answer's shape {tuple(program.answer.shape)} (got {tuple(out.shape)})"
                )
            slot.run(program, batch.detach(), out)
        except NotCapturable:
            raise
        except TensorRTFailure as error:
            raise EngineDefect("crash", f"{error} on an input of {shape}") from error
        except torch.OutOfMemoryError as error:
            raise EnvironmentProblem(
                f"{self._device.torch_device} ran out of memory on {shape}: use smaller images or batches"
            ) from error
        return Pending(out, slot)

    def _need(self, tensor: Tensor, name: str, dtype: torch.dtype) -> None:
        if tensor.dtype != dtype or tensor.device != self._device.torch_device:
            raise UsageError(
                f"{name} must be {dtype} on {self._device.torch_device} (got {tensor.dtype} on {tensor.device}): "
                "call the engine through a Restorer"
            )

    def close(self) -> None:
        """Waits for what is in flight and releases the GPU's memory."""
        for slot in self._slots:
            slot.close()
        self._slots = []


@dataclass(frozen=True, slots=True)
class TensorRTKind:
    """Opens plans whose hash is in their manifest or build record, or that the user vouches for."""

    name: str = "tensorrt"
    suffixes: tuple[str, ...] = (".plan", ".engine")

    def open(self, path: Path, options: EngineOptions) -> tuple[TensorRTEngine, IODescription]:
        """Checks hash, version and GPU, then deserialises.

        Raises:
            ArtefactError: Nobody answers for the plan, it was built for another TensorRT or GPU, or it is damaged.
            EnvironmentProblem: TensorRT or the GPU is not there.
            UsageError: An option was given that a plan has no use for.
        """
        options.refuse(
            "a TensorRT plan",
            provider="choose with --device",
            compute="its types were fixed when it was built; build another --precision",
        )
        if options.arithmetic == "literal":
            raise UsageError("a TensorRT plan is fused already: check its graph with --runtime literal")
        trt = load()
        device = devices.open_device(options.device)
        record, manifest = read_record(path), read_manifest(path)
        named = record.plan.sha256 if record is not None and manifest is None else None
        content = vouched_bytes(path, options.vouched or named)
        if record is not None:
            if record.plan.sha256 != hashlib.sha256(content).hexdigest():
                raise ArtefactError(
                    f"the build record beside {path.name} belongs to another plan: copy the right one, or remove it"
                )
            record.check(path, str(trt.__version__), device.gpu)
        precision = _precision(path, manifest, record) or options.precision or UNKNOWN
        try:
            engine = TensorRTEngine(trt, content, device, precision, record)
        except ArtefactError as error:
            raise ArtefactError(f"{path.name}: {error}") from error
        plan = engine.plan
        facts = GraphFacts(plan.image, plan.answer, precision, opset=0, metadata={})
        return engine, facts.complete(options.io if options.io is not None else describe(path))

    def health(self) -> list[Health]:
        """Whether TensorRT loads, sees the GPU and makes a runtime and a builder on it."""
        try:
            trt = load()
            device = devices.open_device("cuda")
            with device.active():
                created("Runtime", trt.Runtime, logger_of(trt))
                created("Builder", trt.Builder, logger_of(trt))
        except DeployRobustError as error:
            return [Health(self.name, False, str(error).removesuffix(f": {INSTALL}"), INSTALL)]
        return [Health(self.name, True, f"{trt.__version__} on {device.gpu}")]


def _precision(path: Path, manifest: Manifest | None, record: BuildRecord | None) -> str | None:
    """What manifest and build record say, held against each other and against the graph where it lies beside the plan.

    Raises:
        ArtefactError: They contradict each other.
    """
    said = [each.precision for each in (manifest, record) if each is not None]
    if len(set(said)) > 1:
        raise ArtefactError(
            f"the manifest of {path} says {said[0]} and its build record {said[1]}: build the plan again"
        )
    if record is not None:
        graph = within(path.parent, record.onnx.file, path)
        if graph.is_file() and identity_of(graph) == record.onnx.sha256:
            inspect(graph).claimed(record.precision, f"the build record of {path}")
    return said[0] if said else None


KIND = TensorRTKind()
