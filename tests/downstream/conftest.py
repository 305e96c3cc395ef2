"""Small ONNX graphs that answer as downstream networks do, each with its description beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path


def save(path: Path, nodes: list[Any], outputs: list[tuple[str, int, list[Any]]], constants: dict[str, Any]) -> Path:
    """A graph from an image ``x`` (N, 3, H, W)."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def scores(path: Path, weight: Any, *, stride: int = 1) -> Path:
    """Class scores: one 1x1 convolution (K, 3, 1, 1), every `stride` pixels."""
    node = helper.make_node("Conv", ["x", "w"], ["scores"], strides=[stride, stride])
    shape = ["n", weight.shape[0], "a", "b"]
    return save(path, [node], [("scores", TensorProto.FLOAT, shape)], {"w": np.asarray(weight, np.float32)})


def labels(path: Path, weight: Any) -> Path:
    """The class of each pixel."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["s"]),
        helper.make_node("ArgMax", ["s"], ["labels"], axis=1, keepdims=0),
    ]
    constants = {"w": np.asarray(weight, np.float32)}
    return save(path, nodes, [("labels", TensorProto.INT64, ["n", "h", "w"])], constants)


def constant(path: Path, **answers: Any) -> Path:
    """The same answers to every image, each times one plus zero times the image's mean, so that it is used."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0), helper.make_node("Mul", ["m", "zero"], ["z"])]
    constants: dict[str, Any] = {"zero": np.float32(0)}
    outputs = []
    for name, value in answers.items():
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        constants[f"{name}_"] = array
        kind = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT
        if kind == TensorProto.INT64:
            nodes.append(helper.make_node("Cast", ["z"], [f"{name}z"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_", "z" if kind == TensorProto.FLOAT else f"{name}z"], [name]))
        outputs.append((name, kind, list(array.shape)))
    return save(path, nodes, outputs, constants)


@pytest.fixture(scope="session")
def graphs() -> Any:
    """The makers above."""
    return SimpleNamespace(scores=scores, labels=labels, constant=constant)
