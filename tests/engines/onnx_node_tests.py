"""ONNX's own node tests, put to the interpreter of the literal engine."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch

from deploy_robust.engines.literal import graph as graphs
from deploy_robust.engines.literal.program import Program
from deploy_robust.errors import ArtefactError

FLOATS = {
    onnx.TensorProto.DataType.Value(name)
    for name in tuple(onnx.TensorProto.DataType.keys())
    if "FLOAT" in name or name == "DOUBLE"
}


_HALVES = {"bfloat16": 2**-6, "float16": 2**-9}
"""Two units in the last place: inside a node we compute in float32, ONNX's reference rounds its own way."""


@dataclass(frozen=True)
class NodeTest:
    """One test of ONNX: a graph, what goes in and what must come out.

    Attributes:
        name: Its name in ONNX, without the leading ``test_``.
        model: The graph.
        feeds: Values by input name.
        right: Values of the outputs, in their order.
        rtol: Relative tolerance that ONNX allows.
        atol: Absolute tolerance that ONNX allows.
    """

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    right: list[Any]
    rtol: float
    atol: float


@functools.cache
def node_tests() -> dict[str, NodeTest]:
    """All node tests of the installed onnx by name, the expanded ones (functions written out) included."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX's references divide by zero on purpose
        cases = collect_testcases("")
    found = {}
    for case in cases:
        inputs, right = case.data_sets[0]
        names = [value.name for value in case.model.graph.input]
        name = case.name.removeprefix("test_")
        found[name] = NodeTest(name, case.model, dict(zip(names, inputs, strict=False)), right, case.rtol, case.atol)
    return found


def outcome(test: NodeTest) -> tuple[str, str]:
    """What the literal engine makes of one test, and why.

    Returns:
        A word and a reason: ``right``; ``refused`` (`ArtefactError` when the graph is opened); ``wrong``; ``failed``
        (when it ran); ``crashed`` (another error than ours when it was opened).
    """
    found = []
    for index in range(len(test.right)):
        model, image = _with_one_input_and_output(test, index)
        if not model.graph.output[0].name:
            continue
        try:
            program = Program(graphs.read(model), torch.device("cpu"))
        except ArtefactError as error:
            return "refused", str(error)
        except Exception as error:  # the finding
            return "crashed", f"{type(error).__name__}: {error}"
        try:
            found.append((index, _run(program, image)))
        except Exception as error:  # the finding
            return "failed", f"{type(error).__name__}: {error}"
    for index, answer in found:
        if why := _difference(answer, test.right[index], test):
            return "wrong", f"{test.model.graph.output[index].name}: {why}"
    return "right", ""


def answers(test: NodeTest) -> list[torch.Tensor]:
    """All outputs of a test that is covered."""
    cut = [_with_one_input_and_output(test, index) for index in range(len(test.right))]
    return [_run(Program(graphs.read(model), torch.device("cpu")), image) for model, image in cut]


def _run(program: Program, image: onnx.TensorProto | None) -> torch.Tensor:
    return program.run(torch.zeros(1) if image is None else graphs.to_tensor(image))


def _with_one_input_and_output(test: NodeTest, output: int) -> tuple[onnx.ModelProto, onnx.TensorProto | None]:
    """The graph with its first input of floats as the image, the other inputs as constants, and one of its outputs."""
    model = onnx.ModelProto.FromString(test.model.SerializeToString())
    graph = model.graph
    tensors = {}
    for value in graph.input:
        fed = test.feeds.get(value.name)
        if isinstance(fed, onnx.TensorProto):
            tensors[value.name] = onnx.TensorProto.FromString(fed.SerializeToString())
        elif isinstance(fed, np.ndarray | np.generic):
            tensors[value.name] = onnx.numpy_helper.from_array(np.asarray(fed))
    for name, tensor in tensors.items():
        tensor.name = name
    floats = [name for name, tensor in tensors.items() if tensor.data_type in FLOATS]
    image = next(iter([*floats, *tensors]), None)
    graph.initializer.extend(tensor for name, tensor in tensors.items() if name != image)
    inputs = [value for value in graph.input if value.name == image or value.name not in tensors]
    outputs = list(graph.output)
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs or [onnx.helper.make_tensor_value_info("unread", onnx.TensorProto.FLOAT, [1])])
    graph.output.append(outputs.pop(output))
    graph.value_info.extend(value for value in outputs if value.name)
    _move_to_covered_opset(model)
    return model, tensors.get(image)


def _move_to_covered_opset(model: onnx.ModelProto) -> None:
    """Writes the nearest covered operator set where ONNX says the operators are the same, or accepts them in it."""
    entry = next((e for e in model.opset_import if e.domain in ("", "ai.onnx")), None)
    if entry is None or entry.version in graphs.OPSETS or model.functions:
        return
    before, nearest = entry.version, min(max(entry.version, graphs.OPSETS.start), graphs.OPSETS.stop - 1)
    try:
        if before < nearest:
            versions = [
                [onnx.defs.get_schema(n.op_type, v).since_version for n in model.graph.node] for v in (before, nearest)
            ]
            if versions[0] != versions[1]:
                return
        entry.version = nearest
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        entry.version = before


def _difference(answer: torch.Tensor, right: Any, test: NodeTest) -> str:
    """How an output differs from the right one; empty where it does not."""
    right = onnx.numpy_helper.to_array(right) if isinstance(right, onnx.TensorProto) else np.asarray(right)
    if tuple(answer.shape) != right.shape:
        return f"{tuple(answer.shape)} instead of {right.shape}"
    right_type = right.dtype.name
    codes = any(node.op_type == "QuantizeLinear" for node in test.model.graph.node)
    kinds = (
        (answer.dtype == torch.bool, answer.is_floating_point()),
        (right.dtype == bool, right.dtype.kind not in "biu"),
    )
    if kinds[0] != kinds[1] and not codes and right.dtype.kind in "biuf":
        return f"{answer.dtype} instead of {right.dtype}"
    found, right = answer.numpy().astype(np.float64), right.astype(np.float64)
    close = np.isclose(
        found,
        right,
        rtol=max(test.rtol, _HALVES.get(right_type, 0)),
        atol=max(test.atol, 1e-6),
        equal_nan=True,
    )
    return (
        "" if close.all() else f"{(~close).sum()} of {close.size} values, {found[~close][:3]} for {right[~close][:3]}"
    )
