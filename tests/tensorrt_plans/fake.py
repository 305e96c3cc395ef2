"""A small TensorRT of our own, for error paths and for the engine's logic on a CPU.

Its plans hold an ONNX graph and run it with ONNX's reference evaluator on the memory whose addresses they are given, so
that numbers are right only if addresses, shapes, order and streams are. `test_api.py` holds every name and every
parameter here against the recorded facts of the real bindings; nothing is offered that those do not offer.
"""

from __future__ import annotations

import ctypes
import enum
import json
import types
from contextlib import nullcontext

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from deploy_robust.tensorrt.device import Gpu

GPU = Gpu("Fake 9000", "9.0", "570.1")
STREAMS: dict[int, HostStream] = {}


def make(version: str = "11.4.0.106") -> types.ModuleType:
    """A fresh module. ``fake.fails`` names calls that give nothing; ``fake.calls`` counts."""
    trt = types.ModuleType("tensorrt")
    trt.__version__ = version
    trt.fails = set()
    trt.calls = []

    def failing(name: str) -> bool:
        trt.calls.append(name)
        if name in trt.fails:
            for logger in LOGGERS:
                logger.log(ILogger.Severity.ERROR, f"[fake.cpp::42] {name} said no")
        return name in trt.fails

    LOGGERS: list = []

    class Strict:
        """No attribute but those of the class, as with the bindings."""

        __slots__ = ()

    def names(title: str, members: str):
        return enum.IntEnum(title, members, start=0)

    trt.DataType = names("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4 FP4 E8M0")
    trt.BuilderFlag = names("BuilderFlag", "REFIT TF32 STRICT_NANS")
    trt.MemoryPoolType = names("MemoryPoolType", "WORKSPACE")
    trt.ProfilingVerbosity = names("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
    trt.HardwareCompatibilityLevel = names("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
    trt.LayerInformationFormat = names("LayerInformationFormat", "ONELINE JSON")
    trt.TensorIOMode = names("TensorIOMode", "NONE INPUT OUTPUT")
    trt.TensorFormat = names("TensorFormat", "LINEAR CHW4")
    trt.TensorLocation = names("TensorLocation", "DEVICE HOST")
    strategies = "STATIC ON_PROFILE_CHANGE USER_MANAGED"
    trt.ExecutionContextAllocationStrategy = names("ExecutionContextAllocationStrategy", strategies)
    flags = {"STRONGLY_TYPED": 0 if version.startswith("11") else 1}
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", flags)
    types_of = {1: "FLOAT", 10: "HALF", 2: "UINT8", 3: "INT8", 16: "BF16"}

    class ILogger:
        Severity = names("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

        def __init__(self):
            LOGGERS.append(self)

        def log(self, severity, msg):
            raise NotImplementedError

    class IProgressMonitor:
        def __init__(self):
            pass

        def phase_start(self, phase_name, parent_phase, num_steps):
            raise NotImplementedError

        def step_complete(self, phase_name, step):
            raise NotImplementedError

        def phase_finish(self, phase_name):
            raise NotImplementedError

    class IOptimizationProfile(Strict):
        __slots__ = ("_shapes",)

        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):  # noqa: A002
            assert all(type(side) is int for shape in (min, opt, max) for side in shape)
            if failing("set_shape"):
                raise RuntimeError("inconsistent dimensions")
            self._shapes[input] = [list(min), list(opt), list(max)]

    class ITimingCache(Strict):
        __slots__ = ("_content",)

        def __init__(self, content):
            self._content = content

        def serialize(self):
            return None if failing("serialize") else IHostMemory(self._content + b"+times")

    class IHostMemory(bytes):
        pass

    class INetworkDefinition(Strict):
        __slots__ = ("_model",)

    class IBuilderConfig(Strict):
        __slots__ = (
            "_cache",
            "_flags",
            "_pool",
            "_profiles",
            "builder_optimization_level",
            "hardware_compatibility_level",
            "max_aux_streams",
            "profiling_verbosity",
            "progress_monitor",
        )

        def __init__(self):
            self._profiles, self._flags, self._cache, self._pool = [], {trt.BuilderFlag.TF32}, None, None

        def set_flag(self, flag):
            self._flags.add(trt.BuilderFlag(flag))

        def clear_flag(self, flag):
            self._flags.discard(trt.BuilderFlag(flag))

        def set_memory_pool_limit(self, pool, pool_size):
            assert type(pool_size) is int
            self._pool = pool, pool_size

        def add_optimization_profile(self, profile):
            if failing("add_optimization_profile"):
                return -1
            self._profiles.append(profile)
            return len(self._profiles) - 1

        def create_timing_cache(self, serialized_timing_cache):
            return None if failing("create_timing_cache") else ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache, ignore_mismatch):
            assert ignore_mismatch is False
            self._cache = cache
            return not failing("set_timing_cache")

        def get_timing_cache(self):
            return None if failing("get_timing_cache") else self._cache

    class Builder(Strict):
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            if failing("Builder"):
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags=0):
            assert flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            return None if failing("create_network") else INetworkDefinition()

        def create_builder_config(self):
            return None if failing("create_builder_config") else IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 3)
            for step in range(3):
                if not monitor.step_complete("Building", step):
                    return None
            monitor.phase_finish("Building")
            if failing("build_serialized_network"):
                return None
            facts = {
                "version": trt.__version__,
                "shapes": [profile._shapes for profile in config._profiles],
                "flags": sorted(flag.name for flag in config._flags),
                "detailed": config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED,
                "level": config.builder_optimization_level,
            }
            return IHostMemory(b"FAKE" + json.dumps(facts).encode() + b"\n" + network._model.SerializeToString())

    class ParserError(Strict):
        def desc(self):
            return "no importer registered for op: Wiggle"

        def node_name(self):
            return "wiggle_7"

        def node_operator(self):
            return "Wiggle"

    class OnnxParser(Strict):
        __slots__ = ("_errors", "_network")

        def __init__(self, network, logger):
            if failing("OnnxParser"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self._network, self._errors = network, []

        def parse_from_file(self, model):
            assert type(model) is str
            if failing("parse_from_file"):
                self._errors = [ParserError()]
                return False
            self._network._model = onnx.load(model)
            return True

        @property
        def num_errors(self):
            return len(self._errors)

        def get_error(self, index):
            return self._errors[index]

    class Runtime(Strict):
        __slots__ = ("engine_host_code_allowed",)

        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            if failing("Runtime"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.engine_host_code_allowed = True

        def deserialize_cuda_engine(self, serialized_engine):
            assert self.engine_host_code_allowed is False
            content = bytes(memoryview(serialized_engine))
            head, _, model = content.removeprefix(b"FAKE").partition(b"\n")
            good = content.startswith(b"FAKE") and json.loads(head)["version"] == trt.__version__
            if failing("deserialize_cuda_engine") or not good:
                return None
            return ICudaEngine(json.loads(head), onnx.load_from_string(model))

    class ICudaEngine(Strict):
        __slots__ = ("_facts", "_model", "_run", "device_memory_size_v2")

        def __init__(self, facts, model):
            self._facts, self._model, self._run = facts, model, ReferenceEvaluator(model)
            self.device_memory_size_v2 = 1024

        def _values(self):
            return [*self._model.graph.input, *self._model.graph.output]

        def _value(self, name):
            return next(value for value in self._values() if value.name == name)

        @property
        def num_io_tensors(self):
            return len(self._values())

        @property
        def num_optimization_profiles(self):
            return max(1, len(self._facts["shapes"]))

        def get_tensor_name(self, index):
            return self._values()[index].name

        def get_tensor_mode(self, name):
            inputs = [value.name for value in self._model.graph.input]
            return trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name):
            return trt.DataType[types_of[self._value(name).type.tensor_type.elem_type]]

        def get_tensor_shape(self, name):
            return tuple(dim.dim_value or -1 for dim in self._value(name).type.tensor_type.shape.dim)

        def get_tensor_format(self, name):
            return trt.TensorFormat.CHW4 if failing("get_tensor_format") else trt.TensorFormat.LINEAR

        def get_tensor_format_desc(self, name):
            return "four channels together"

        def get_tensor_location(self, name):
            return trt.TensorLocation.HOST if failing("get_tensor_location") else trt.TensorLocation.DEVICE

        def get_tensor_profile_shape(self, name, profile_index):
            return [tuple(shape) for shape in self._facts["shapes"][profile_index][name]]

        def create_execution_context(self, strategy):
            assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
            return None if failing("create_execution_context") else IExecutionContext(self)

        def create_engine_inspector(self):
            return None if failing("create_engine_inspector") else EngineInspector(self)

    class EngineInspector(Strict):
        __slots__ = ("_engine",)

        def __init__(self, engine):
            self._engine = engine

        def get_engine_information(self, format):  # noqa: A002
            assert format == trt.LayerInformationFormat.JSON
            nodes = self._engine._model.graph.node
            if not self._engine._facts["detailed"]:
                return json.dumps({"Layers": [node.op_type for node in nodes], "Bindings": []})
            form = {"Format": "Row major linear", "DataType": "Float"}
            if version.startswith("10"):
                form = {"Format/Datatype": "Row major linear FP32 format"}
            layers = [
                {"Name": node.op_type, "LayerType": "fake", "Inputs": [{"Name": "a"} | form], "Outputs": [form]}
                for node in nodes
            ]
            ports = [value.name for value in self._engine._values()]
            if version.startswith("10"):
                return json.dumps({"Layers": layers, "Bindings": ports})
            return json.dumps({"Layers": layers, "I/O Tensors": [{"Name": name} for name in ports]})

    class IExecutionContext(Strict):
        __slots__ = ("_addresses", "_engine", "_scratch", "_shape", "active_optimization_profile")

        def __init__(self, engine):
            self._engine, self._addresses, self._shape, self._scratch = engine, {}, None, None
            self.active_optimization_profile = 0

        def set_device_memory(self, memory, size):
            assert memory > 0
            assert size >= self._engine.device_memory_size_v2
            self._scratch = memory, size

        def set_optimization_profile_async(self, profile_index, stream_handle):
            assert stream_handle in STREAMS
            self.active_optimization_profile, self._shape = profile_index, None
            return not failing("set_optimization_profile_async")

        def set_input_shape(self, name, shape):
            assert self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            profiles = self._engine._facts["shapes"]
            if profiles:
                low, _, high = profiles[self.active_optimization_profile][name]
                if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
                    return False
            self._shape = tuple(shape)
            return not failing("set_input_shape")

        def infer_shapes(self):
            return ["answer"] if failing("infer_shapes") else []

        def get_tensor_shape(self, name):
            return self._shape

        def set_tensor_address(self, name, memory):
            assert type(memory) is int
            assert memory % 64 == 0
            self._addresses[name] = memory
            return not failing("set_tensor_address")

        def execute_async_v3(self, stream_handle):
            if failing("execute_async_v3"):
                return False
            assert self._scratch is not None
            stream, engine, shape = STREAMS[stream_handle], self._engine, self._shape
            image, answer = (value.name for value in engine._values())
            read = memory_of(self._addresses[image], shape, engine.get_tensor_dtype(image).name)
            write = memory_of(self._addresses[answer], shape, engine.get_tensor_dtype(answer).name)

            def kernel():
                np.copyto(write, engine._run.run(None, {image: read})[0])

            stream.queue(kernel)
            return True

    made = (ILogger, IProgressMonitor, IOptimizationProfile, ITimingCache, IHostMemory, INetworkDefinition)
    made += (IBuilderConfig, Builder, ParserError, OnnxParser, Runtime, ICudaEngine, EngineInspector)
    for kind in (*made, IExecutionContext):
        setattr(trt, kind.__name__, kind)
    return trt


def memory_of(address: int, shape, dtype: str) -> np.ndarray:
    """The memory at an address, as the GPU would see it."""
    kind = np.dtype({"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}[dtype])
    size = int(np.prod(shape)) * kind.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=kind).reshape(shape)


class HostStream:
    """Work that waits until somebody waits for it: what is read too early is what was there before."""

    def __init__(self) -> None:
        self.work: list = []
        self.recording: list | None = None
        STREAMS[id(self)] = self

    def queue(self, step) -> None:
        (self.work if self.recording is None else self.recording).append(step)

    def flush(self) -> None:
        while self.work:
            self.work.pop(0)()


class HostDevice:
    """`deploy_robust.tensorrt.device.Device` on a CPU; ``log`` says in order what was asked of it."""

    def __init__(self, gpu: Gpu = GPU, *, captures: bool = True) -> None:
        self.gpu, self.torch_device = gpu, torch.device("cpu")
        self.log: list[str] = []
        self.captures = captures

    def active(self):
        return nullcontext()

    def new_stream(self) -> HostStream:
        return HostStream()

    def handle(self, stream) -> int:
        return id(stream)

    def enter(self, stream) -> None:
        self.log.append("enter")

    def leave(self, stream) -> None:
        self.log.append("leave")
        stream.flush()

    def settle(self, stream) -> None:
        self.log.append("settle")
        stream.flush()

    def copy(self, to, what, stream) -> None:
        self.log.append("copy")
        stream.queue(lambda: to.copy_(what))

    def hold(self, tensor, stream) -> None:
        self.log.append("hold")

    def captured(self, stream, launch):
        self.log.append("capture")
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        stream.recording = []
        try:
            launch()
            graph = stream.recording
        finally:
            stream.recording = None

        def replay() -> None:
            for step in graph:
                stream.queue(step)

        return replay
