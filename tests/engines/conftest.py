"""Small ONNX graphs in the forms that foreign networks come in, and what they must answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def graphs() -> ModuleType:
    """The makers below."""
    return sys.modules[__name__]


KERNEL = np.random.default_rng(5).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
"""Weights of the one convolution, RGB in and out."""

WEIGHT = torch.from_numpy(KERNEL)


def save(nodes, inputs, outputs, initialisers, path: Path, opset: int = 17) -> Path:
    stored = [v if isinstance(v, TensorProto) else numpy_helper.from_array(v, k) for k, v in initialisers.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))
    return path


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def conv_graph(path: Path, shape=("n", 3, "h", "w"), weight: np.ndarray = KERNEL, name: str = "x") -> Path:
    """x -> Conv(x): NCHW float32."""
    nodes = [helper.make_node("Conv", [name, "w"], ["y"], pads=[1, 1, 1, 1])]
    return save(nodes, [value(name, list(shape))], [value("y", list(shape))], {"w": weight}, path)


def quantised_graph(path: Path, codes: int = TensorProto.INT8, *, idle: bool = False) -> Path:
    """One convolution of dequantised codes, or of floats beside a quantiser that touches nothing."""
    made = {"z": helper.make_tensor("z", codes, (), b"\0", raw=True), "s": np.float32(1 / 100)}
    made |= {"w": np.zeros(1, np.float32) if idle else KERNEL, "k": KERNEL}

    def pair(name: str) -> list[onnx.NodeProto]:
        quantised = helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"])
        return [quantised, helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_d"])]

    if idle:
        conv = helper.make_node("Conv", ["x", "k"], ["c"], pads=[1] * 4)
        nodes = [conv, *pair("w"), helper.make_node("Add", ["c", "w_d"], ["y"])]
    else:
        nodes = [*pair("x"), *pair("w"), helper.make_node("Conv", ["x_d", "w_d"], ["y"], pads=[1] * 4)]
    sides = ["n", 3, "h", "w"]
    return save(nodes, [value("x", sides)], [value("y", sides)], made, path, opset=21)


def nhwc_uint8_graph(path: Path, weight: np.ndarray = KERNEL) -> Path:
    """uint8 0..255 NHWC -> float 0..255 NHWC, through the same convolution."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["c", "w"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["d"], ["y"], perm=[0, 2, 3, 1]),
    ]
    shape = ["n", "h", "w", 3]
    return save(nodes, [value("x", shape, TensorProto.UINT8)], [value("y", shape)], {"w": weight}, path)


def half_graph(path: Path) -> Path:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    shape = ["n", 3, "h", "w"]
    half = TensorProto.FLOAT16
    return save(nodes, [value("x", shape, half)], [value("y", shape, half)], {"w": KERNEL.astype(np.float16)}, path)


def crashing_graph(path: Path) -> Path:
    """Accepts any size and fails inside for all but 64x64: a Reshape to a frozen size, as bad exports have it."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    shape = np.array([1, 3, 64, 64], dtype=np.int64)
    return save(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 3, "h", "w"])], {"s": shape}, path)
