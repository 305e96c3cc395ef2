"""OpenVINO on the CPU: IR files and ONNX graphs, with its compute precision set, read back and reported."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.graph_values import NOMINAL_SIDE
from deploy_robust.artefact.hashing import BIN_HASH, sha256_of
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.artefact.onnx_graph import GraphFacts, Port, inspect
from deploy_robust.artefact.precision import STRICTNESS, Shares
from deploy_robust.engine import Capabilities, EngineOptions, Health
from deploy_robust.engines.ports import TORCH, need_memory, undeclared
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription

DEVICE = "CPU"

_REMEDY = "pip install 'deploy-robust[openvino]', in an environment of its own where versions conflict"
_OURS = {"f32": "float", "f16": "float16", "u8": "uint8", "f64": "double"}
_COMPUTE = {"f32": "f32", "bf16": "bf16", "f16": "f16"}
_PRECISION = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_PRODUCTS = (
    *("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"),
    *("MatMul", "DeformableConvolution"),
)
_QUANTISERS = {"FakeQuantize": "int8", "FakeConvert": "fp8"}
_CODES = {
    **dict.fromkeys(("i8", "u8"), "int8"),
    **dict.fromkeys(("i4", "u4"), "int4"),
    **dict.fromkeys(("f8e4m3", "f8e5m2"), "fp8"),
}
_LONGEST = 16
"""Operators between a quantiser and the layer that it belongs to."""


class OpenVinoEngine:
    """A compiled model and one infer request behind the engine protocol.

    Input is always read where the caller has it. The answer is written where `out` says, or into a tensor of the shape
    that an input of this shape gave before; only the first answer of each shape is copied out of OpenVINO's memory.

    Args:
        model: An ``openvino.Model``.
        facts: What it says of itself.
        options: Threads and compute precision.
        tags: More lines for the report.

    Raises:
        ArtefactError: OpenVINO cannot compile the model.
        EnvironmentProblem: This CPU does not compute in what was asked for.
        UsageError: An option was given that OpenVINO has no use for.
    """

    def __init__(
        self, model: Any, facts: GraphFacts, options: EngineOptions, tags: dict[str, str] | None = None
    ) -> None:
        openvino = library()
        _refuse(options)
        asked = options.compute or "f32"
        config: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": asked,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": options.threads or 0,
        }
        try:
            compiled = openvino.Core().compile_model(model, DEVICE, config)
        except Exception as error:
            raise ArtefactError(f"OpenVINO cannot compile the model ({first_line(error)}): export it again") from error
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if computes != asked:
            raise EnvironmentProblem(
                f"OpenVINO was asked to compute in {asked} and this CPU makes {computes} of it: "
                f"use --compute {computes} to check that, or --compute f32"
            )
        self._request: Any = compiled.create_infer_request()
        self._tensor = openvino.Tensor
        self._image, self._answer = facts.image, facts.answer
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        # What a graph keeps in fp32 is computed in the hint's type; a graph of another type keeps its name.
        precision = _PRECISION[computes] if facts.precision == "fp32" else facts.precision
        self._capabilities = Capabilities(
            runtime=f"openvino {openvino.__version__.split('-')[0]}",
            provider=",".join(compiled.get_property("EXECUTION_DEVICES")),
            device="cpu",
            threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
            deterministic=True,
            differentiable=False,
            arithmetic="fused",
            precision=precision,
            tags={
                "compute": computes,
                "graph": facts.precision,
                "work": facts.work,
                "processor": openvino.Core().get_property(DEVICE, "FULL_DEVICE_NAME"),
                "input": str(facts.image),
                **(tags or {}),
            },
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    @property
    def request(self) -> Any:
        """The ``openvino.InferRequest`` itself, for benchmarks of what this wrapper costs."""
        return self._request

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass.

        Raises:
            EngineDefect: OpenVINO failed on an input of the type and shape that its model declares.
            UsageError: The input has another type or shape than the model declares, or the engine is closed.
        """
        if self._request is None:
            raise UsageError("this engine is closed")
        if (mismatch := undeclared(batch, self._image)) is not None:
            raise mismatch
        here = torch.device("cpu")
        batch = batch.detach().contiguous()
        need_memory("the input", batch, self._image, here)
        known = self._shapes.get(tuple(batch.shape))
        if out is None and known is not None:
            out = torch.empty(known, dtype=TORCH[self._answer.dtype])
        try:
            self._request.set_input_tensor(self._tensor(batch.numpy(), shared_memory=True))
            if out is None:
                return self._learned(batch)
            need_memory("out", out, self._answer, here)
            self._request.set_output_tensor(self._tensor(out.numpy(), shared_memory=True))
            self._request.infer()
        except UsageError:
            raise
        except MemoryError as error:
            raise EnvironmentProblem(
                f"the CPU ran out of memory on {tuple(batch.shape)}: use smaller images or batches"
            ) from error
        except Exception as error:
            raise EngineDefect(
                "crash", f"OpenVINO failed on an input of {tuple(batch.shape)}: {first_line(error)}"
            ) from error
        return out

    def _learned(self, batch: Tensor) -> Tensor:
        """The answer in OpenVINO's own memory, copied; its shape is remembered."""
        # A tensor that was set for an earlier shape cannot grow: a request of its own allocates afresh.
        request = self._request.get_compiled_model().create_infer_request()
        request.set_input_tensor(self._tensor(batch.numpy(), shared_memory=True))
        request.infer()
        answer = torch.from_numpy(request.get_output_tensor().data.copy())
        self._shapes[tuple(batch.shape)] = tuple(answer.shape)
        return answer

    def close(self) -> None:
        """Lets go of the model."""
        self._request = None


@dataclass(frozen=True, slots=True)
class OpenVinoKind:
    """Opens IR files by their suffix, and ONNX files when chosen by name."""

    name: str = "openvino"
    suffixes: tuple[str, ...] = (".xml",)

    def open(self, path: Path, options: EngineOptions) -> tuple[OpenVinoEngine, IODescription]:
        """Reads and compiles a model.

        Raises:
            ArtefactError: The file is damaged, its weights are missing or another file's, or it is no network from
                image to image.
            EnvironmentProblem: OpenVINO is missing, or does not compute in what was asked for.
            UsageError: An option was given that OpenVINO has no use for.
        """
        openvino = library()
        _refuse(options)
        is_onnx = path.suffix.lower() == ".onnx"
        tags = {} if is_onnx else {"weights_sha256": _weights(path)}
        try:
            model = openvino.Core().read_model(str(path))
        except Exception as error:
            raise ArtefactError(
                f"OpenVINO cannot read {path} ({first_line(error)}): copy or export it again"
            ) from error
        _same_weights(path, model, tags)
        facts = inspect(path) if is_onnx else facts_of(path, model)
        manifest = read_manifest(path)
        if manifest is not None:
            facts.claimed(manifest.precision, f"the manifest of {path}")
        io = facts.complete(options.io if options.io is not None else describe(path))
        return OpenVinoEngine(model, facts, options, tags), io

    def health(self) -> list[Health]:
        """Adds an image to itself on the CPU and looks at the sum."""
        name = f"openvino / {DEVICE}"
        try:
            openvino = library()
            twice = openvino.opset13
            image = twice.parameter([-1, 3, -1, -1], openvino.Type.f32, name="x")
            model = openvino.Model([twice.add(image, image)], [image], "doubled")
            engine = OpenVinoEngine(model, facts_of(Path("doubled.xml"), model), EngineOptions())
            x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
            right = torch.equal(engine.run(x), x + x)
        except (ArtefactError, EnvironmentProblem, EngineDefect) as error:
            return [Health(name, False, str(error).removesuffix(f": {_REMEDY}"), _REMEDY)]
        if not right:
            return [Health(name, False, "an addition gave a wrong sum", "reinstall openvino")]
        return [Health(name, True, engine.capabilities.runtime.split()[1])]


def library() -> Any:
    """The ``openvino`` package.

    Raises:
        EnvironmentProblem: It is missing, or does not load.
    """
    try:
        import openvino
        import openvino.opset13
    except Exception as error:  # a wheel for another machine fails in its own ways
        raise EnvironmentProblem(f"openvino cannot be imported ({error}): {_REMEDY}") from error
    return openvino


def facts_of(path: Path, model: Any) -> GraphFacts:
    """What an ``openvino.Model`` says of itself.

    Raises:
        ArtefactError: It has another number of inputs or outputs than one, or one that is no batch of images.
    """
    image, answer = (_only(path, role, getattr(model, f"{role}s")) for role in ("input", "output"))
    shares = shares_of(model)
    return GraphFacts(image, answer, shares.judged, 0, {}, str(shares))


def _refuse(options: EngineOptions) -> None:
    if options.device != "cpu":
        raise UsageError(f"OpenVINO runs here on the CPU (got {options.device!r}): leave --device out")
    options.refuse("OpenVINO", provider="it runs on the CPU here, leave it out")
    if options.arithmetic == "literal":
        raise UsageError(
            "OpenVINO always rewrites the graph: use --runtime onnxruntime --arithmetic literal, or --runtime literal"
        )


def _weights(path: Path) -> str:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtefactError(f"the weights of {path} are not there: copy {weights.name} beside it")
    return sha256_of(weights)


def _same_weights(path: Path, model: Any, tags: dict[str, str]) -> None:
    """An IR file of ours names the hash of its weights."""
    if not model.has_rt_info(list(BIN_HASH)):
        return
    wanted = str(model.get_rt_info(list(BIN_HASH)).value)
    if tags.get("weights_sha256") != wanted:
        raise ArtefactError(
            f"{path.with_suffix('.bin').name} holds other weights than {path} was written with (another hash than it "
            "names): copy both files together, or export again"
        )


def _only(path: Path, role: str, ports: Any) -> Port:
    if len(ports) != 1:
        raise ArtefactError(
            f"{path} must have one image {role} and has {len(ports)}: export the network's image {role} alone"
        )
    (found,) = ports
    shape = tuple(None if side.is_dynamic else side.get_length() for side in found.get_partial_shape())
    kind = found.get_element_type().to_string()
    port = Port(next(iter(found.get_names()), role), _OURS.get(kind, kind), shape)
    if len(shape) != 4 or kind not in _OURS:
        raise ArtefactError(
            f"the {role} of {path} is no batch of images ({port}): four dimensions of f32, f16 or u8 are needed"
        )
    return port


def shares_of(model: Any) -> Shares:
    """The work of an ``openvino.Model`` by type, counted as `artefact.precision` counts that of an ONNX graph.

    What no pixel reaches, what reaches no output, and what is multiplied by a constant zero counts nothing.
    """
    sized = _at_nominal_size(model)
    ops = sized.get_ordered_ops()
    depends: set[str] = set()
    live: set[str] = set()
    for op in ops:
        kind, above = op.get_type_name(), [port.get_source_output().get_node() for port in op.inputs()]
        reached = any(each.get_name() in depends for each in above) and kind != "ShapeOf"
        if kind == "Parameter" or (reached and not (kind == "Multiply" and any(map(_is_zero, above)))):
            depends.add(op.get_name())
    for op in reversed(ops):
        if op.get_name() in depends and (op.get_type_name() == "Result" or op.get_name() in live):
            live.update(port.get_source_output().get_node().get_name() for port in op.inputs())
    work: defaultdict[str, float] = defaultdict(float)
    for op in ops:
        if op.get_name() in depends & live and op.get_type_name() in _PRODUCTS:
            work[_type_of(op)] += _products(op)
    if not work:  # nothing multiplies by weights: quantisers decide, else the type of the answer
        quantisers = [_QUANTISERS[op.get_type_name()] for op in ops if op.get_type_name() in _QUANTISERS]
        work[quantisers[0] if quantisers else _float_of(sized.outputs[0])] += 1
    return Shares(dict(work))


def _at_nominal_size(model: Any) -> Any:
    """A copy for one image of the nominal size where sizes are open, or the model itself where that cannot be."""
    (port, *_) = model.inputs
    shape, usual = port.get_partial_shape(), (1, 3, NOMINAL_SIDE, NOMINAL_SIDE)
    if not shape.is_dynamic or len(shape) != len(usual):
        return model
    if not shape[3].is_dynamic and shape[3].get_length() == usual[1]:
        usual = (1, NOMINAL_SIDE, NOMINAL_SIDE, 3)
    try:
        copy = model.clone()
        copy.reshape(
            [default if side.is_dynamic else side.get_length() for side, default in zip(shape, usual, strict=True)]
        )
    except Exception:  # a model that does not take it is counted by its weights
        return model
    return copy


def _products(op: Any) -> float:
    """Multiply-accumulates of a layer; the size of its weights where sizes stay open."""
    shapes = [port.get_partial_shape() for port in (op.input(0), op.input(1), op.output(0))]
    if any(shape.is_dynamic for shape in shapes):
        return float(math.prod(shapes[1].to_shape())) if not shapes[1].is_dynamic else 1.0
    image, weights, out = (tuple(shape.to_shape()) for shape in shapes)
    kind = op.get_type_name()
    if kind == "MatMul":
        across = image[-2] if op.get_attributes().get("transpose_a") and len(image) > 1 else image[-1]
        return float(math.prod(out) * across)
    channels = weights[0] * weights[1] if kind.startswith("Group") else weights[0]
    return float(math.prod(image if "Backprop" in kind else out) * math.prod(weights) / max(1, channels))


def _type_of(op: Any) -> str:
    codes = [_codes(op.input_value(index)) for index in (0, 1)]
    return _float_of(op.output(0)) if None in codes else min(map(str, codes), key=STRICTNESS.index)


def _codes(port: Any) -> str | None:
    """The type of the codes that a value stands for; None where it was never quantised."""
    for _ in range(_LONGEST):
        op = port.get_node()
        kind = op.get_type_name()
        if kind in _QUANTISERS:
            return _QUANTISERS[kind]
        if kind == "Constant":
            return _CODES.get(op.get_output_element_type(0).to_string())
        if kind in ("Multiply", "Subtract"):
            sides = [op.input_value(index) for index in (0, 1)]
            values = [side for side in sides if not _is_scale(side)]
            port = values[0] if len(values) == 1 else sides[0]
            if len(values) > 1:
                return None
        elif kind in ("Convert", "Reshape", "Transpose", "Relu", "MaxPool", "Squeeze", "Unsqueeze"):
            port = op.input_value(0)
        else:
            return None
    return None


def _is_scale(port: Any) -> bool:
    """Whether it is a constant of one value, or of one for each channel: a scale or a zero-point."""
    op, shape = port.get_node(), port.get_partial_shape()
    while op.get_type_name() in ("Convert", "Reshape", "Unsqueeze"):
        op = op.input_value(0).get_node()
    return bool(op.get_type_name() == "Constant" and math.prod(shape.to_shape()) == max(shape.to_shape(), default=1))


def _is_zero(op: Any) -> bool:
    return bool(op.get_type_name() == "Constant" and not op.get_data().any())


def _float_of(port: Any) -> str:
    return _PRECISION.get(port.get_element_type().to_string(), "fp32")


KIND = OpenVinoKind()
