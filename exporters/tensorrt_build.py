"""An ONNX graph to a TensorRT plan: strongly typed, so that precision is the graph's, in what 10.13 to 11.x share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deploy_robust.artefact.files import atomic
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.manifest import FileRecord
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.errors import ExportError, InputError, UsageError
from deploy_robust.exporters.tensorrt_progress import Progress, monitor_of
from deploy_robust.tensorrt.build_record import BuildRecord
from deploy_robust.tensorrt.calls import LOG, TensorRTFailure, logger_of, must, ok
from deploy_robust.tensorrt.inspector import inspection_of
from deploy_robust.tensorrt.loading import created
from deploy_robust.tensorrt.plan import deserialise
from deploy_robust.tensorrt.timing_cache import read_cache, write_cache

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.artefact.onnx_graph import GraphFacts
    from deploy_robust.tensorrt.device import Device
    from deploy_robust.tensorrt.inspector import Inspection
    from deploy_robust.tensorrt.plan import LivePlan
    from deploy_robust.tensorrt.profiles import Profile

Hardware = Literal["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How a plan is built. Precision is not among it: that is in the graph.

    Attributes:
        profiles: Shapes that the plan takes; needed for a graph with open dimensions, and only for one.
        tf32: Lets float32 products be rounded to 10 bits of mantissa; TensorRT's own default, and never ours.
        strict_nans: Keeps TensorRT from folding what is only right without NaN, so that a NaN stays visible.
        optimisation: Builder's level, 0 (fast build) to 5 (fast plan).
        workspace: Bytes of scratch memory that kernels may use; None leaves it to TensorRT.
        hardware: Compatibility level; all but ``NONE`` cost speed and let the plan load on more GPUs.
        timing_cache: File to read kernel times from and to write them to, so that a rebuild chooses the same kernels.
        progress: Told in a few words what the builder is at.
    """

    profiles: tuple[Profile, ...] = ()
    tf32: bool = False
    strict_nans: bool = True
    optimisation: int = 3
    workspace: int | None = None
    hardware: Hardware = "NONE"
    timing_cache: Path | None = None
    progress: Progress = field(default=lambda _: None)

    def __post_init__(self) -> None:
        if not 0 <= self.optimisation <= 5:
            raise UsageError(f"the builder's optimisation level is 0 to 5 (got {self.optimisation})")
        if self.workspace is not None and self.workspace < 1:
            raise UsageError(f"the builder needs at least one byte of workspace (got {self.workspace})")

    @property
    def flags(self) -> dict[str, bool]:
        """The builder's flags by name, set or cleared; no flag is left to a default."""
        return {"TF32": self.tf32, "STRICT_NANS": self.strict_nans}


def build_plan(trt: Any, onnx_path: Path, out: Path, settings: BuildSettings, device: Device) -> BuildRecord:
    """Builds a plan, loads it again, compares it with the graph, and writes it with its record beside it.

    Args:
        trt: The module ``tensorrt``.
        onnx_path: The graph; one image in, one image out.
        out: The plan; it gets this name only when everything is right, and an older one is replaced then.
        settings: How to build.
        device: The GPU to build on and for.

    Returns:
        The record, as written.

    Raises:
        ExportError: TensorRT does not take the graph, or the plan is not what was asked for.
        ArtefactError: The graph is damaged, or the timing cache is stale.
        EnvironmentProblem: TensorRT gives no builder or runtime.
        InputError: The plan cannot be written.
        UsageError: The profiles do not fit the graph.
    """
    started = time.perf_counter()
    facts = inspect(onnx_path)
    _check_profiles(facts, settings.profiles)
    version = str(trt.__version__)
    cache = None if settings.timing_cache is None else read_cache(settings.timing_cache, version, device.gpu)
    with device.active():
        try:
            serialised, times = _serialised(trt, onnx_path, facts.image.name, settings, cache)
            live = deserialise(trt, memoryview(serialised))
        except TensorRTFailure as error:
            raise ExportError(f"no plan of {onnx_path.name}: {error}; nothing was left behind") from error
        _compare(live, facts, settings.profiles)
        inspection = inspection_of(trt, live.cuda_engine)
    if settings.timing_cache is not None:
        write_cache(settings.timing_cache, times, version, device.gpu)
    with atomic(out) as temporary:
        _write(temporary, serialised)
        record = _record(temporary, out, onnx_path, facts, settings, device, version, inspection, started)
    record.write(out)
    return record


def _record(
    temporary: Path,
    out: Path,
    onnx_path: Path,
    facts: GraphFacts,
    settings: BuildSettings,
    device: Device,
    version: str,
    inspection: Inspection,
    started: float,
) -> BuildRecord:
    return BuildRecord(
        plan=FileRecord(out.name, sha256_of(temporary)),
        onnx=FileRecord.of(onnx_path),
        precision=facts.precision,
        tensorrt=version,
        gpu=device.gpu,
        flags=tuple(name for name, wanted in settings.flags.items() if wanted),
        hardware=settings.hardware,
        optimisation=settings.optimisation,
        workspace=settings.workspace,
        profiles=settings.profiles,
        timing_cache=None if settings.timing_cache is None else sha256_of(settings.timing_cache),
        layers=inspection.counts(),
        seconds=round(time.perf_counter() - started, 3),
    )


def _serialised(
    trt: Any, onnx_path: Path, image: str, settings: BuildSettings, cache: bytes | None
) -> tuple[Any, bytes]:
    """The plan in memory, and the kernel times measured meanwhile.

    Raises:
        TensorRTFailure: TensorRT gave nothing.
        ExportError: The graph was refused, node by node.
    """
    logger = logger_of(trt)
    builder = created("Builder", trt.Builder, logger)
    since = LOG.mark()
    # On 11 the flag says what is always so; its number is another one than on 10.
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = must(builder.create_network(strongly_typed), "create_network", since)
    parser = created("OnnxParser", trt.OnnxParser, network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise ExportError(f"TensorRT does not take {onnx_path.name}: {_parser_errors(parser)}; nothing was left behind")
    config = must(builder.create_builder_config(), "create_builder_config", since)
    _configure(trt, config, settings)
    for wanted in settings.profiles:
        profile = builder.create_optimization_profile()
        try:
            profile.set_shape(image, wanted.least, wanted.best, wanted.most)
        except RuntimeError as error:
            raise LOG.failure(f"set_shape of profile {wanted} ({error})", since) from error
        ok(config.add_optimization_profile(profile) >= 0, f"add_optimization_profile {wanted}", since)
    timing_cache = None
    if cache is not None:
        timing_cache = must(config.create_timing_cache(cache), "create_timing_cache", since)
        remedy = "remove the timing cache, or name another file"
        ok(config.set_timing_cache(timing_cache, ignore_mismatch=False), "set_timing_cache", since, remedy)
    monitor = monitor_of(trt, settings.progress)
    config.progress_monitor = monitor
    serialised = builder.build_serialized_network(network, config)
    monitor.reraise()
    must(serialised, "build_serialized_network", since)
    return serialised, b"" if timing_cache is None else _times(config)


def _times(config: Any) -> bytes:
    since = LOG.mark()
    timing_cache = must(config.get_timing_cache(), "get_timing_cache", since)
    return bytes(memoryview(must(timing_cache.serialize(), "serialize", since)))


def _configure(trt: Any, config: Any, settings: BuildSettings) -> None:
    for name, wanted in settings.flags.items():
        flag = {"TF32": trt.BuilderFlag.TF32, "STRICT_NANS": trt.BuilderFlag.STRICT_NANS}[name]
        if wanted:
            config.set_flag(flag)
        else:
            config.clear_flag(flag)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    config.builder_optimization_level = settings.optimisation
    # Without details the inspector knows names only, and not in which type a layer runs.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.max_aux_streams = 0
    levels = trt.HardwareCompatibilityLevel
    config.hardware_compatibility_level = {
        "NONE": levels.NONE,
        "AMPERE_PLUS": levels.AMPERE_PLUS,
        "SAME_COMPUTE_CAPABILITY": levels.SAME_COMPUTE_CAPABILITY,
    }[settings.hardware]


def _parser_errors(parser: Any) -> str:
    """Node by node, what the parser did not like."""
    found = []
    for index in range(parser.num_errors):
        parser_error = parser.get_error(index)
        found.append(f"{parser_error.node_operator()} {parser_error.node_name()!r}: {parser_error.desc()}")
    return "; ".join(found)[:600] or "; ".join(LOG.reasons()) or "it gave no reason"


def _check_profiles(facts: GraphFacts, profiles: tuple[Profile, ...]) -> None:
    """Refuses profiles that contradict the graph, before minutes are spent on a build."""
    if None not in facts.image.shape:
        if profiles:
            raise UsageError(f"{facts.image} has one shape only: leave the profile out")
        return
    if not profiles:
        raise UsageError(
            f"{facts.image} leaves sizes open and a plan needs to know them: "
            "give a profile LEAST,BEST,MOST, like 1x3x64x64,1x3x256x256,8x3x512x512"
        )
    for profile in profiles:
        fits = len(profile.least) == len(facts.image.shape) and all(
            side is None or side == found
            for side, found in zip(facts.image.shape * 2, (*profile.least, *profile.most), strict=True)
        )
        if not fits:
            raise UsageError(
                f"profile {profile} does not fit the graph's {facts.image}: change the sides that it fixes"
            )


def _compare(live: LivePlan, facts: GraphFacts, profiles: tuple[Profile, ...]) -> None:
    """Compares the plan, loaded again, with what was asked for."""
    asked = (facts.image.name, facts.image.dtype, facts.answer.name, facts.answer.dtype)
    found = (live.image.name, live.image.dtype, live.answer.name, live.answer.dtype)
    if asked != found:
        raise ExportError(f"the plan's input and output are {found} and the graph's {asked}; nothing was left behind")
    if profiles and live.profiles != profiles:
        raise ExportError(
            f"the plan took other profiles ({'; '.join(map(str, live.profiles))}) than asked for "
            f"({'; '.join(map(str, profiles))}); nothing was left behind"
        )


def _write(path: Path, serialised: Any) -> None:
    try:
        with path.open("wb") as file:
            file.write(memoryview(serialised))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; free some space or choose another place") from error
