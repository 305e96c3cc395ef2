"""ONNX Runtime on the CPU, CUDA and TensorRT, with explicit session options and no silent fallback."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.engine import Capabilities, EngineOptions, Health
from deploy_robust.engines.onnxruntime_placement import Placement
from deploy_robust.engines.onnxruntime_session import (
    CPU,
    CUDA,
    REMEDIES,
    TENSORRT,
    Place,
    open_session,
    place,
)
from deploy_robust.engines.ports import NUMPY, TORCH, need_memory, undeclared
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.artefact.onnx_graph import GraphFacts, Port


class OnnxRuntimeEngine:
    """A session behind the engine protocol.

    On the CPU tensors share memory with ONNX Runtime in both directions. On a GPU device pointers are bound, nothing
    passes through the host, and the session computes on a stream of its own that waits for the caller's and is waited
    for; that half is exercised by the tests marked ``gpu`` and by nothing else.

    Args:
        path: ONNX file, for messages and loading.
        facts: What `inspect` read from it.
        options: Device, providers, threads, arithmetic.

    Raises:
        ArtefactError: ONNX Runtime refuses the graph.
        EnvironmentProblem: Library, provider or device did not come up, or part of the graph runs elsewhere.
        UsageError: The provider is unknown, or does not run on the device.
    """

    def __init__(self, path: Path, facts: GraphFacts, options: EngineOptions) -> None:
        options.refuse("ONNX Runtime", compute="the graph says its types; export another --precision")
        where = place(options)
        self._image, self._answer, self._device = facts.image, facts.answer, where.device
        if facts.answer.dtype not in TORCH:
            raise ArtefactError(
                f"{path} answers with {facts.answer.dtype} ({facts.answer}): export it with a float or uint8 output"
            )
        self._stream = _new_stream(where.device) if where.device.type == "cuda" else None
        self._session: Any
        if self._stream is None:
            self._session, ran = open_session(path, where, options, facts.work), None
        else:
            self._session, ran = self._open_on_gpu(path, where, options, facts.work)
        import onnxruntime

        settings = self._session.get_session_options()
        on_cpu = where.device.type == "cpu"
        self._capabilities = Capabilities(
            runtime=f"onnxruntime {onnxruntime.__version__}",
            provider=", ".join(where.providers),
            device=str(where.device),
            threads=settings.intra_op_num_threads or None if on_cpu else None,
            deterministic=on_cpu or (bool(settings.use_deterministic_compute) and TENSORRT not in where.providers),
            differentiable=False,
            arithmetic=options.arithmetic or "fused",
            precision=facts.precision,
            tags={"opset": str(facts.opset), "input": str(facts.image), "work": facts.work}
            | ({} if ran is None else {"nodes": ran}),
        )

    def _open_on_gpu(self, path: Path, where: Place, options: EngineOptions, precision: str) -> tuple[Any, str]:
        """A session whose first pass was profiled, and where its nodes ran.

        Raises:
            EnvironmentProblem: A node that touches the image ran elsewhere, or the image is copied to the host.
        """
        with tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
            assert self._stream is not None  # noqa: S101  (for the type checker: only called with a stream)
            stream, prefix = self._stream.cuda_stream, Path(folder) / "profile"
            self._session = session = open_session(path, where, options, precision, stream=stream, profile=prefix)
            probe = torch.zeros(_probe_shape(self._image), dtype=TORCH.get(self._image.dtype), device=where.device)
            try:
                self._run_on_device(probe, None)
                torch.cuda.synchronize(where.device)
            except Exception as error:  # a graph that fails on a black image is for the check to judge
                session.end_profiling()
                return session, f"not verified: {first_line(error)}"
            ran = Placement.read(Path(session.end_profiling()))
        if not ran.nodes:
            raise EnvironmentProblem(
                f"the profile of {path.name} names no node, so that nothing shows where it runs: "
                "use another version of onnxruntime, or --device cpu"
            )
        pixels = probe[0].numel() // 3
        if astray := (*ran.elsewhere(where.providers, pixels), *ran.copies(pixels)):
            node = astray[0]
            raise EnvironmentProblem(
                f"{where.providers[0]} cannot run all of {path.name}: {node.kind} {node.name!r} runs on "
                f"{node.provider or 'another provider'} ({len(astray)} such nodes), and falling back is not allowed: "
                "use --device cpu, name the providers that may take part (--provider tensorrt,cuda), "
                "or export another precision"
            )
        return session, str(ran)

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    @property
    def session(self) -> Any:
        """The ``onnxruntime.InferenceSession`` itself, for benchmarks of what this wrapper costs."""
        return self._session

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass.

        Raises:
            EngineDefect: The session failed on an input of the type and shape that its graph declares.
            UsageError: The input has another type or shape than the graph declares, or the engine is closed.
        """
        if self._session is None:
            raise UsageError("this engine is closed")
        try:
            if self._stream is not None:
                return self._run_on_device(batch, out)
            if out is None:
                answers = self._session.run([self._answer.name], {self._image.name: batch.detach().numpy()})
                return torch.from_numpy(answers[0])
            return self._run_bound(batch, out)
        except Exception as error:
            raise self._explained(error, batch) from error

    def _run_bound(self, batch: Tensor, out: Tensor) -> Tensor:
        """Input and output by pointer, which says nothing of strides: both must be contiguous and where the session is.

        `out` must be of the answer's shape and type.
        """
        device = self._device
        need_memory("the input", batch, self._image, device)
        need_memory("out", out, self._answer, device)
        binding = self._session.io_binding()
        at = device.type, device.index or 0
        binding.bind_input(self._image.name, *at, NUMPY[self._image.dtype], tuple(batch.shape), batch.data_ptr())
        binding.bind_output(self._answer.name, *at, NUMPY[self._answer.dtype], tuple(out.shape), out.data_ptr())
        self._session.run_with_iobinding(binding)
        return out

    def _run_on_device(self, batch: Tensor, out: Tensor | None) -> Tensor:
        """On CUDA, where the answer must have the input's shape: ONNX Runtime refuses to bind any other."""
        if out is None:
            out = torch.empty(batch.shape, dtype=TORCH[self._answer.dtype], device=batch.device)
        assert self._stream is not None  # noqa: S101  (for the type checker: only called with a stream)
        caller = torch.cuda.current_stream(batch.device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            self._run_bound(batch, out)
        caller.wait_stream(self._stream)
        # The allocator must not hand the memory on before the session's stream is done with it.
        batch.record_stream(self._stream)
        out.record_stream(self._stream)
        return out

    def _explained(self, error: Exception, batch: Tensor) -> Exception:
        if isinstance(error, UsageError):
            return error
        if (mismatch := undeclared(batch, self._image)) is not None:
            return mismatch
        if (
            "Failed to allocate memory" in str(error)
            or "bad_alloc" in str(error)
            or isinstance(error, torch.OutOfMemoryError)
        ):
            return EnvironmentProblem(
                f"{self._device} ran out of memory on {tuple(batch.shape)}: use smaller images or batches"
            )
        return EngineDefect("crash", f"ONNX Runtime failed on an input of {tuple(batch.shape)}: {first_line(error)}")

    def close(self) -> None:
        """Lets go of the session."""
        self._session = None


@dataclass(frozen=True, slots=True)
class OnnxRuntimeKind:
    """Opens ONNX files, ours or foreign."""

    name: str = "onnxruntime"
    suffixes: tuple[str, ...] = (".onnx",)

    def open(self, path: Path, options: EngineOptions) -> tuple[OnnxRuntimeEngine, IODescription]:
        """Loads a file and completes its I/O description from manifest, metadata and graph.

        Raises:
            ArtefactError: The file is damaged, is no network from image to image, or contradicts its description.
            EnvironmentProblem: Library, provider or device did not come up.
            UsageError: The provider is unknown, or does not run on the device.
        """
        facts = inspect(path)
        io_description = facts.complete(options.io) if options.io is not None else describe(path)
        return OnnxRuntimeEngine(path, facts, options), io_description

    def health(self) -> list[Health]:
        """Adds two images on each provider: ``get_available_providers`` lists what was compiled in, not what works."""
        return [_try_provider(CPU, "cpu"), _try_provider(CUDA, "cuda"), _try_provider(TENSORRT, "cuda")]


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _probe_shape(image: Port) -> tuple[int, ...]:
    """One image of 64 pixels a side, or what the graph fixes; NCHW where it says nothing of channels."""
    usual = (1, 64, 64, 3) if image.shape[3] == 3 and image.shape[1] != 3 else (1, 3, 64, 64)
    return tuple(side or default for side, default in zip(image.shape, usual, strict=True))


def _try_provider(provider: str, device: str) -> Health:
    """Runs a graph of one addition on a provider and looks at the sum."""
    name, remedy = f"onnxruntime / {provider}", REMEDIES[provider]
    try:
        import onnxruntime
    except ImportError as error:
        return Health(name, False, f"onnxruntime cannot be imported ({error})", REMEDIES[CPU])
    try:
        with tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
            path = Path(folder) / "doubled.onnx"
            path.write_bytes(_doubling_graph())
            engine = OnnxRuntimeEngine(path, inspect(path), EngineOptions(device=device, provider=provider))
            image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(engine.capabilities.device)
            right = torch.equal(engine.run(image), image + image)
    except (ArtefactError, EnvironmentProblem, EngineDefect) as error:
        return Health(name, False, str(error).removesuffix(f": {remedy}"), remedy)
    if not right:
        return Health(name, False, "an addition gave a wrong sum", remedy)
    return Health(name, True, onnxruntime.__version__)


def _doubling_graph() -> bytes:
    import onnx
    from onnx import TensorProto, helper

    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


KIND = OnnxRuntimeKind()
