"""ONNX Runtime on the CPU and on CUDA, with explicit session options and no silent fallback."""

from __future__ import annotations

import contextlib
import ctypes
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.engine import Capabilities, EngineOptions, Health
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.artefact.onnx_graph import GraphFacts

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PROVIDER_OF = {"cpu": CPU, "cuda": CUDA}
_FATAL = 4
"""Severity at which ONNX Runtime writes to stderr: whatever it would say also reaches us as an exception."""

_NUMPY = {"float": np.float32, "float16": np.float16, "uint8": np.uint8, "double": np.float64}
_TORCH = {"float": torch.float32, "float16": torch.float16, "uint8": torch.uint8, "double": torch.float64}

_CUDA_REMEDY = (
    "install onnxruntime-gpu (and not onnxruntime beside it) with the CUDA and cuDNN versions that it was built for, "
    "or use --device cpu"
)


class OnnxRuntimeEngine:
    """A session behind the engine protocol.

    On the CPU tensors share memory with ONNX Runtime in both directions. On CUDA device pointers are bound, nothing
    passes through the host, and the session computes on a stream of its own that waits for the caller's and is waited
    for; that half is exercised by the tests marked ``gpu`` and by nothing else.

    Args:
        path: ONNX file, for messages and loading.
        facts: What `inspect` read from it.
        options: Device, provider, threads, optimisation.

    Raises:
        ArtefactError: ONNX Runtime refuses the graph.
        EnvironmentProblem: Library, provider or device did not come up.
        UsageError: The provider is unknown, or does not run on the device.
    """

    def __init__(self, path: Path, facts: GraphFacts, options: EngineOptions) -> None:
        device, provider = _place(options)
        self._image, self._answer = facts.image, facts.answer
        self._stream = _new_stream(device) if device.type == "cuda" else None
        self._session: Any = _open_session(path, provider, options, device, self._stream)
        self._check_provider(provider)
        if facts.answer.dtype not in _TORCH:
            raise ArtefactError(
                f"{path} answers with {facts.answer.dtype} ({facts.answer}): export it with a float or uint8 output"
            )
        import onnxruntime

        settings = self._session.get_session_options()
        self._capabilities = Capabilities(
            runtime=f"onnxruntime {onnxruntime.__version__}",
            provider=self._session.get_providers()[0],
            device=str(device),
            threads=settings.intra_op_num_threads or None if device.type == "cpu" else None,
            deterministic=bool(settings.use_deterministic_compute) or device.type == "cpu",
            differentiable=False,
            arithmetic="literal" if options.optimisation == "none" else "fused",
            precision=facts.precision,
            tags={"optimisation": options.optimisation, "opset": str(facts.opset), "input": str(facts.image)},
        )

    def _check_provider(self, asked: str) -> None:
        """ONNX Runtime drops a provider that does not load with no more than a line on stderr."""
        found = self._session.get_providers()
        if not found or found[0] != asked:
            raise EnvironmentProblem(
                f"{asked} did not come up and ONNX Runtime fell back to {', '.join(found) or 'nothing'}"
                f"{_why_no_cuda() if asked == CUDA else ''}: {_CUDA_REMEDY}"
            )

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
        device = torch.device(self._capabilities.device)
        for name, tensor, kind in (("the input", batch, self._image), ("out", out, self._answer)):
            if tensor.dtype != _TORCH.get(kind.dtype) or not tensor.is_contiguous() or tensor.device != device:
                raise UsageError(
                    f"{name} must be contiguous {_TORCH.get(kind.dtype)} on {device} (got {tensor.dtype} on "
                    f"{tensor.device}, strides {tensor.stride()}): call the engine through a Restorer"
                )
        binding = self._session.io_binding()
        place = device.type, device.index or 0
        binding.bind_input(self._image.name, *place, _NUMPY[self._image.dtype], tuple(batch.shape), batch.data_ptr())
        binding.bind_output(self._answer.name, *place, _NUMPY[self._answer.dtype], tuple(out.shape), out.data_ptr())
        self._session.run_with_iobinding(binding)
        return out

    def _run_on_device(self, batch: Tensor, out: Tensor | None) -> Tensor:
        """On CUDA, where the answer must have the input's shape: ONNX Runtime refuses to bind any other."""
        if out is None:
            out = torch.empty(batch.shape, dtype=_TORCH[self._answer.dtype], device=batch.device)
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
        dtype = _TORCH.get(self._image.dtype)
        declared = self._image.shape
        fits = batch.dim() == len(declared) and all(n in (None, m) for n, m in zip(declared, batch.shape, strict=True))
        if batch.dtype != dtype or not fits:
            return UsageError(
                f"the graph takes {self._image} and was given {batch.dtype} {tuple(batch.shape)}: "
                "call it through a Restorer with its I/O description"
            )
        if (
            "Failed to allocate memory" in str(error)
            or "bad_alloc" in str(error)
            or isinstance(error, torch.OutOfMemoryError)
        ):
            return EnvironmentProblem(
                f"{self._capabilities.device} ran out of memory on {tuple(batch.shape)}: use smaller images or batches"
            )
        return EngineDefect("crash", f"ONNX Runtime failed on an input of {tuple(batch.shape)}: {_first_line(error)}")

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
        return [_try_provider("cpu"), _try_provider("cuda")]


def _place(options: EngineOptions) -> tuple[torch.device, str]:
    """Device and provider that fit each other.

    Raises:
        UsageError: They do not, or one is unknown.
    """
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {options.device!r}: use cpu, cuda or cuda:N") from error
    if device.type not in _PROVIDER_OF:
        raise UsageError(f"ONNX Runtime runs here on cpu and cuda (got {options.device!r})")
    plain = _PROVIDER_OF[device.type]
    provider = options.provider or plain
    if provider not in _PROVIDER_OF.values():
        raise UsageError(
            f"unknown provider {provider!r}: supported are {CPU} (--device cpu) and {CUDA} (--device cuda)"
        )
    if provider != plain:
        raise UsageError(
            f"{provider} does not run on {options.device}: use --device {'cpu' if provider == CPU else 'cuda'}"
        )
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise EnvironmentProblem(f"{CUDA} was asked for and torch sees no GPU{_why_no_cuda()}: {_CUDA_REMEDY}")
        device = torch.device("cuda", device.index or 0)
    return device, provider


def _open_session(
    path: Path, provider: str, options: EngineOptions, device: torch.device, stream: torch.cuda.Stream | None
) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = options.threads or 0
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.use_deterministic_compute = True
    levels = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if options.optimisation == "all" else levels.ORT_DISABLE_ALL
    )
    provider_options: dict[str, str] = {}
    if stream is not None:
        _load_cuda_libraries()
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider_options = {"device_id": str(device.index), "user_compute_stream": str(stream.cuda_stream)}
    try:
        return onnxruntime.InferenceSession(
            str(path), settings, providers=[provider], provider_options=[provider_options], disabled_optimizers=None
        )
    except Exception as error:  # the binding raises a class of its own for each status code
        if stream is not None and "fallback" in str(error):
            raise EnvironmentProblem(
                f"{CUDA} cannot run all of {path} ({_first_line(error)}) and falling back to the CPU is not allowed: "
                "use --device cpu, or export another precision"
            ) from error
        if stream is not None and "CUDA" in str(error):
            raise EnvironmentProblem(f"{CUDA} did not come up ({_first_line(error)}): {_CUDA_REMEDY}") from error
        raise ArtefactError(
            f"ONNX Runtime refuses {path}: {_first_line(error)}; export it again or with another opset"
        ) from error


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _load_cuda_libraries() -> None:
    """Lets ONNX Runtime find the CUDA and cuDNN that came with torch; it prints what it does not find."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


def _why_no_cuda() -> str:
    """What the dynamic loader says about the CUDA provider, a reason that ONNX Runtime keeps to its log; or nothing."""
    import onnxruntime

    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        return " (this onnxruntime is a CPU build)"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        missing = str(error).split(": ")
        return f" ({missing[0].rsplit('/', 1)[-1]}: {missing[-1]})"
    return ""


def _try_provider(device: str) -> Health:
    """Runs a graph of one addition on a provider and looks at the sum."""
    name = f"onnxruntime / {_PROVIDER_OF[device]}"
    remedy = "reinstall onnxruntime-gpu (or onnxruntime where no GPU build exists)" if device == "cpu" else _CUDA_REMEDY
    try:
        import onnxruntime
    except ImportError as error:
        return Health(name, False, f"onnxruntime cannot be imported ({error})", remedy)
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
            path = Path(folder) / "doubled.onnx"
            path.write_bytes(_doubling_graph())
            engine = OnnxRuntimeEngine(path, inspect(path), EngineOptions(device=device))
            image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(engine.capabilities.device)
            right = torch.equal(engine.run(image), image + image)
    except (ArtefactError, EnvironmentProblem, EngineDefect) as error:
        reason = str(error).removesuffix(f": {_CUDA_REMEDY}")
        return Health(name, False, reason, remedy)
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


def _first_line(error: BaseException) -> str:
    """The first line of a message, without the library's own prefix of status and code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


KIND = OnnxRuntimeKind()
