"""What the engine inspector says of a plan: in which type each layer really answers. TensorRT 11 changed the form."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import ArtefactError
from deploy_robust.tensorrt.calls import LOG, must

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPES = (
    ("int8", re.compile(r"\bint8", re.IGNORECASE)),
    ("fp8", re.compile(r"\b(fp8|float8)", re.IGNORECASE)),
    ("bf16", re.compile(r"\b(bf16|bfloat16)", re.IGNORECASE)),
    ("fp16", re.compile(r"\b(fp16|half|float16)", re.IGNORECASE)),
    ("fp32", re.compile(r"\b(fp32|float32|float\b)", re.IGNORECASE)),
    ("int32", re.compile(r"\bint32", re.IGNORECASE)),
    ("int64", re.compile(r"\bint64", re.IGNORECASE)),
    ("bool", re.compile(r"\bbool", re.IGNORECASE)),
)
"""Words for types: short ones (``Half``) and whole sentences (``Row major linear FP16 format``) both occur."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a plan, which may stand for several nodes of the graph.

    Attributes:
        name: As TensorRT gives it.
        kind: Like ``CaskConvolution``.
        inputs: Type of each input.
        outputs: Type of each output.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """All layers of a plan.

    Attributes:
        layers: In order of execution.
        ports: Names of inputs and outputs.
    """

    layers: tuple[Layer, ...]
    ports: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """How many layers answer in which type; a layer counts once, by its first output."""
        return dict(Counter(layer.outputs[0] if layer.outputs else "none" for layer in self.layers))


def inspection_of(trt: Any, cuda_engine: Any) -> Inspection:
    """What the inspector says of an engine that was built with detailed verbosity.

    Raises:
        TensorRTFailure: There is no inspector.
        ArtefactError: It speaks another form than that of TensorRT 10 or 11.
    """
    since = LOG.mark()
    inspector = must(cuda_engine.create_engine_inspector(), "create_engine_inspector", since)
    return parse(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def parse(text: str) -> Inspection:
    """Reads the JSON of either form: `Bindings` and ``Format/Datatype`` of 10, ``I/O Tensors`` and ``DataType`` of 11.

    Raises:
        ArtefactError: It is neither.
    """
    try:
        data = json.loads(text)
        key: Sequence[str]
        if "I/O Tensors" in data:
            ports, key = tuple(str(each["Name"]) for each in data["I/O Tensors"]), ("DataType", "Datatype")
        else:
            ports, key = tuple(map(str, data["Bindings"])), ("Format/Datatype",)
        layers = tuple(_layer(each, key) for each in data["Layers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"the engine inspector answers in a form that is neither TensorRT 10's nor 11's ({error!r}): "
            "report the TensorRT version; the plan's layers stay unknown"
        ) from error
    return Inspection(layers, ports)


def _layer(data: Mapping[str, Any] | str, keys: Sequence[str]) -> Layer:
    if isinstance(data, str):
        raise KeyError(f"layer {data!r} has a name only: the plan was not built with detailed verbosity")
    inputs = tuple(_type(tensor, keys) for tensor in data.get("Inputs", ()))
    outputs = tuple(_type(tensor, keys) for tensor in data.get("Outputs", ()))
    return Layer(str(data["Name"]), str(data.get("LayerType", "unknown")), inputs, outputs)


def _type(tensor: Mapping[str, Any], keys: Sequence[str]) -> str:
    text = next((str(tensor[key]) for key in keys if key in tensor), None)
    if text is None:
        raise KeyError(keys[0])
    return next((name for name, words in _TYPES if words.search(text)), text)
