"""ONNX Runtime sessions in which everything is said: providers, their options, whether the graph is rewritten."""

from __future__ import annotations

import contextlib
import ctypes
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.errors import ArtefactError, EnvironmentProblem, UsageError, first_line

if TYPE_CHECKING:
    from deploy_robust.engine import EngineOptions

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_DEVICE_OF = {CPU: "cpu", CUDA: "cuda", TENSORRT: "cuda"}
_PLAIN = {"cpu": CPU, "cuda": CUDA}
_SHORT = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_FATAL = 4
"""Severity at which ONNX Runtime writes to stderr: whatever it would say also reaches us as an exception."""

REMEDIES = {
    CPU: "reinstall onnxruntime-gpu (or onnxruntime where no GPU build exists)",
    CUDA: "install onnxruntime-gpu (and not onnxruntime beside it) with the CUDA and cuDNN versions that it was built "
    "for, or use --device cpu",
    TENSORRT: "install onnxruntime-gpu and the TensorRT version that it was built for, or use --provider cuda",
}
"""What to do where a provider does not come up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session runs.

    Attributes:
        device: Torch device, with its index on a GPU.
        providers: In order of preference; the user allowed each of them.
    """

    device: torch.device
    providers: tuple[str, ...]


def place(options: EngineOptions) -> Place:
    """Device and providers that fit each other.

    Raises:
        UsageError: They do not, or one is unknown.
        EnvironmentProblem: torch sees no GPU.
    """
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {options.device!r}: use cpu, cuda or cuda:N") from error
    if device.type not in _PLAIN:
        raise UsageError(f"ONNX Runtime runs here on cpu and cuda (got {options.device!r})")
    asked = [part.strip() for part in options.provider.split(",")] if options.provider else [_PLAIN[device.type]]
    providers = tuple(dict.fromkeys(_SHORT.get(name.lower(), name) for name in asked))
    for name in providers:
        if name not in _DEVICE_OF:
            raise UsageError(
                f"unknown provider {name!r}: supported are {CPU} (--device cpu), {CUDA} and {TENSORRT} (--device cuda)"
            )
        if _DEVICE_OF[name] != device.type:
            raise UsageError(f"{name} does not run on {options.device}: use --device {_DEVICE_OF[name]}")
    if TENSORRT in providers and options.arithmetic == "literal":
        raise UsageError(f"{TENSORRT} always fuses: use --arithmetic fused, or --provider cuda")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise EnvironmentProblem(
                f"{providers[0]} was asked for and torch sees no GPU{why_missing(providers[0])}: "
                f"{REMEDIES[providers[0]]}"
            )
        device = torch.device("cuda", device.index or 0)
    return Place(device, providers)


def open_session(
    path: Path,
    where: Place,
    options: EngineOptions,
    precision: str,
    *,
    stream: int | None = None,
    profile: Path | None = None,
) -> Any:
    """An ``onnxruntime.InferenceSession`` on the providers that were asked for.

    Args:
        path: ONNX file.
        where: Device and providers.
        options: Threads and arithmetic.
        precision: The types that the graph works in, by name.
        stream: CUDA stream to compute on; None on a CPU.
        profile: Prefix of the profile's file name; None records none.

    Raises:
        ArtefactError: ONNX Runtime refuses the graph.
        EnvironmentProblem: ONNX Runtime is missing, or a provider did not come up.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblem(f"onnxruntime cannot be imported ({error}): {REMEDIES[CPU]}") from error

    onnxruntime.set_default_logger_severity(_FATAL)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    settings.intra_op_num_threads = options.threads or 0
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.use_deterministic_compute = True
    levels = onnxruntime.GraphOptimizationLevel
    # Below ORT_DISABLE_ALL, Q/DQ pairs may be fused with what is between them into kernels that round elsewhere.
    settings.graph_optimization_level = (
        levels.ORT_DISABLE_ALL if options.arithmetic == "literal" else levels.ORT_ENABLE_ALL
    )
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    if where.device.type == "cuda":
        _load_cuda_libraries()
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            settings,
            providers=list(where.providers),
            provider_options=[provider_options(name, where.device, precision, stream) for name in where.providers],
            enable_fallback=0,  # its own fallback opens another session in silence, at creation or at a failed run
        )
    except Exception as error:  # the binding raises a class of its own for each status code
        failed = next((name for name in where.providers if name.removesuffix("ExecutionProvider") in str(error)), None)
        if where.device.type == "cuda" and (failed is not None or "CUDA" in str(error)):
            name = failed or where.providers[0]
            raise EnvironmentProblem(f"{name} did not come up ({first_line(error)}): {REMEDIES[name]}") from error
        raise ArtefactError(
            f"ONNX Runtime refuses {path}: {first_line(error)}; export it again or with another opset"
        ) from error
    _check_providers(session, where)
    return session


def provider_options(name: str, device: torch.device, precision: str, stream: int | None) -> dict[str, str]:
    """What a provider is told, so that little is left to a default that depends on the card.

    CUDA computes fp32 products in TF32 by default, rounded to 10 bits: an fp32 graph would not be one. The TensorRT
    provider has no such switch; ``NVIDIA_TF32_OVERRIDE=0`` in the environment turns TF32 off for the whole process.
    """
    if name == CPU:
        return {}
    told = {"device_id": str(device.index or 0)}
    if stream is not None:
        told["user_compute_stream"] = str(stream)
    if name == CUDA:
        return told | {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "do_copy_in_default_stream": "1"}
    # The types that the graph itself has: with more allowed, TensorRT may lower what the graph keeps in fp32.
    return told | {
        "trt_fp16_enable": str(int("fp16" in precision)),
        "trt_bf16_enable": str(int("bf16" in precision)),
        "trt_int8_enable": str(int("int8" in precision)),
        "trt_engine_cache_enable": "0",
        "trt_timing_cache_enable": "0",
        "trt_dump_subgraphs": "0",
    }


def _check_providers(session: Any, where: Place) -> None:
    """ONNX Runtime drops a provider that does not load with no more than a line on stderr."""
    found = list(session.get_providers())
    for rank, name in enumerate(where.providers):
        if found[rank : rank + 1] != [name]:
            raise EnvironmentProblem(
                f"{name} did not come up and ONNX Runtime fell back to {', '.join(found) or 'nothing'}"
                f"{why_missing(name)}: {REMEDIES[name]}"
            )


def why_missing(provider: str) -> str:
    """What the dynamic loader says about a GPU provider, which ONNX Runtime keeps to its log; or nothing."""
    if provider == CPU:
        return ""
    try:
        import onnxruntime
    except ImportError:
        return " (onnxruntime is not installed)"
    stem = "cuda" if provider == CUDA else "tensorrt"
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{stem}.so"
    if not library.is_file():
        return " (this onnxruntime is a CPU build)"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        missing = str(error).split(": ")
        return f" ({missing[0].rsplit('/', 1)[-1]}: {missing[-1]})"
    return ""


def _load_cuda_libraries() -> None:
    """Lets ONNX Runtime find the CUDA and cuDNN that came with torch; it prints what it does not find."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
