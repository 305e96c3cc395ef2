"""ONNX protobufs to plain records: nodes in an order that can be run, constants as tensors, a type for every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deploy_robust.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx
    from torch import Tensor

OPSETS = range(11, 24)
"""Versions of the default operator set whose semantics are implemented."""

_DOMAINS = ("", "ai.onnx")


class Attributes(dict[str, Any]):
    """Attributes of a node by name, which remembers those that were asked for.

    An attribute that a builder never asks for would be passed over in silence: `Program` refuses its node.

    Attributes:
        read: Names that were asked for, whether they are there or not.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute, or what holds where the node does not have it."""
        self.read.add(name)
        return super().get(name, default)

    @property
    def unread(self) -> list[str]:
        """Names of the attributes that nobody asked for, in alphabetical order."""
        return sorted(set(self) - self.read)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph.

    Attributes:
        op: Operator type.
        name: Its own name, or that of its first output.
        inputs: Names of values; an empty one is an optional input left out.
        outputs: Likewise.
        attributes: Values by name; strings decoded, tensors as protobufs.
        opset: Version of the default operator set.
        input_types: ONNX element type of each input; 0 where unknown.
        output_types: Likewise for each output.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    opset: int
    input_types: tuple[int, ...]
    output_types: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.op} node {self.name!r}"

    def refused(self, why: str) -> ArtefactError:
        """The error that says that this node is not covered, and why."""
        return ArtefactError(
            f"{self} is not covered by the literal engine ({why}): use another engine, or export without it"
        )


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph with one input and one output that are computed with.

    Attributes:
        nodes: In an order in which every value exists before it is used.
        constants: Initialisers by name, on the CPU; see `to_tensor` for their types.
        image: Name of the input.
        answer: Name of the output.
        types: ONNX element type by value name.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    image: str
    answer: str
    types: Mapping[str, int]


def read(model: onnx.ModelProto) -> Graph:
    """Reads a model whose weights are loaded.

    Raises:
        ArtefactError: An operator set is not covered, a node computes from values that nothing makes, or the graph has
            another number of inputs or outputs than one.
    """
    import onnx

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opset = _opset(model)
    graph = model.graph
    if graph.sparse_initializer:
        raise ArtefactError("the graph holds sparse weights, which the literal engine does not cover: export it dense")
    with torch.inference_mode(False):  # constants made in inference mode could never take part in a backward pass
        constants = {tensor.name: to_tensor(tensor) for tensor in graph.initializer}
    types = _types(model)
    nodes = [_node(proto, opset, types) for proto in graph.node]
    images = [value.name for value in graph.input if value.name not in constants]
    if len(images) != 1 or len(graph.output) != 1:
        raise ArtefactError(
            f"the graph has {len(images)} inputs and {len(graph.output)} outputs: the literal engine takes one of each"
        )
    if not types.get(images[0]):
        raise ArtefactError(
            f"the graph's input {images[0]!r} is no tensor: the literal engine takes one tensor of numbers"
        )
    held_dtype(types[images[0]])  # refuses types that are not covered, when the graph is opened
    ordered = _sorted(nodes, {*constants, images[0]})
    made = {name for node in ordered for name in node.outputs} | {images[0], *constants}
    if graph.output[0].name not in made:
        raise ArtefactError(f"no node makes the graph's output {graph.output[0].name!r}: export it again")
    return Graph(ordered, constants, images[0], graph.output[0].name, types)


def to_tensor(proto: onnx.TensorProto) -> Tensor:
    """A constant as a tensor of the type in which the interpreter holds it.

    float16, bfloat16 and 8-bit floats become float32 (their values are kept, and so are gradients), 4-bit integers
    int8.
    """
    import onnx

    array = np.asarray(onnx.numpy_helper.to_array(proto))
    held = held_dtype(proto.data_type)
    if held.is_floating_point and array.dtype != np.float64:
        array = array.astype(np.float32)
    elif array.dtype.kind not in "biuf":  # 4-bit types of ml_dtypes
        array = array.astype(np.int8)
    elif array.dtype in (np.uint16, np.uint32, np.uint64):  # torch computes little with these
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array)).to(held)


def held_dtype(element: int) -> torch.dtype:
    """The torch type in which values of an ONNX element type are held."""
    import onnx

    name = onnx.TensorProto.DataType.Name(element)
    exact = {
        "DOUBLE": torch.float64,
        "INT64": torch.int64,
        "INT32": torch.int32,
        "INT16": torch.int16,
        "INT8": torch.int8,
        "INT4": torch.int8,
        "UINT4": torch.int8,
        "UINT8": torch.uint8,
        "BOOL": torch.bool,
        "UINT16": torch.int64,
        "UINT32": torch.int64,
        "UINT64": torch.int64,
    }
    if name in exact:
        return exact[name]
    if name.startswith(("FLOAT", "BFLOAT16")) and name not in ("FLOAT4E2M1", "FLOAT8E8M0"):
        return torch.float32
    raise ArtefactError(f"the graph holds {name.lower()} values, which the literal engine does not cover")


def _opset(model: onnx.ModelProto) -> int:
    version = next((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), 0)
    if version not in OPSETS:
        raise ArtefactError(
            f"the graph is of opset {version} and the literal engine covers {OPSETS.start} to {OPSETS.stop - 1}: "
            "convert it with onnx.version_converter, or export it again"
        )
    return version


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value that ONNX's own inference finds."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ArtefactError(f"types cannot be inferred in the graph ({reason}): export it again") from error
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return {**types, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


def _node(proto: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> Node:
    import onnx

    name = proto.name or next((name for name in proto.output if name), "?")
    attributes = Attributes()
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    if proto.domain not in _DOMAINS:
        raise ArtefactError(
            f"{proto.op_type} node {name!r} is of the vendor domain {proto.domain!r}, which the literal engine does "
            "not cover: use another engine, or export with ONNX's own operators"
        )
    return Node(
        proto.op_type,
        name,
        tuple(proto.input),
        tuple(proto.output),
        attributes,
        opset,
        tuple(types.get(i, 0) for i in proto.input),
        tuple(types.get(o, 0) for o in proto.output),
    )


def _sorted(nodes: Iterable[Node], known: set[str]) -> tuple[Node, ...]:
    """The nodes in the file's order as far as possible: some converters append nodes at the end."""
    waiting: dict[int, set[str]] = {}
    users: dict[str, list[int]] = {}
    listed = list(nodes)
    known = {*known, ""}
    for index, node in enumerate(listed):
        waiting[index] = set(node.inputs) - known
        for name in waiting[index]:
            users.setdefault(name, []).append(index)
    ordered: list[Node] = []
    ready = [index for index, missing in reversed(waiting.items()) if not missing]
    while ready:
        index = ready.pop()
        ordered.append(listed[index])
        freed = []
        for name in listed[index].outputs:
            for user in users.get(name, ()):
                waiting[user].discard(name)
                if not waiting[user]:
                    freed.append(user)
        ready = sorted({*ready, *freed}, reverse=True)
    if len(ordered) != len(listed):
        stuck = next(index for index, missing in waiting.items() if missing)
        raise ArtefactError(
            f"{listed[stuck]} computes from {min(waiting[stuck])!r}, which nothing makes before it: export it again"
        )
    return tuple(ordered)
