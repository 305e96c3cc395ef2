"""What is read from an ONNX file, and which files are refused with which words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.errors import ArtefactError


def graph(path, inputs, outputs, nodes, weights=()):
    made = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(a, n) for n, a in weights])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, str(path))
    return path


def value(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, list(shape))


RELU = [helper.make_node("Relu", ["x"], ["y"])]


def test_facts_of_a_dynamic_graph(tmp_path):
    path = graph(tmp_path / "a.onnx", [value("x", "n", 3, "h", "w")], [value("y", "n", 3, "h", "w")], RELU)
    facts = inspect(path)
    assert (facts.image.name, facts.image.shape, facts.precision, facts.opset) == (
        "x",
        (None, 3, None, None),
        "fp32",
        17,
    )
    assert describe(path) == IODescription()


def test_layout_and_fixed_sizes_are_read(tmp_path):
    path = graph(tmp_path / "a.onnx", [value("x", 1, 48, 64, 3)], [value("y", 1, 48, 64, 3)], RELU)
    io = describe(path)
    assert (io.layout, io.size, io.batch) == ("NHWC", SizeRule(fixed=(48, 64)), 1)


def test_stored_description_is_used_and_flags_win(tmp_path):
    path = graph(tmp_path / "a.onnx", [value("x", "n", 3, "h", "w")], [value("y", "n", 3, "h", "w")], RELU)
    model = onnx.load(str(path))
    helper.set_model_props(model, {"deploy_robust.io": '{"colour": "BGR", "size": {"multiple": 8, "fixed": null}}'})
    onnx.save_model(model, str(path))
    assert describe(path) == IODescription(colour="BGR", size=SizeRule(8))
    assert describe(path, {"colour": "RGB"}) == IODescription(size=SizeRule(8))


def test_precision_by_operators_and_weights(tmp_path):
    shape = ("n", 3, "h", "w")
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    path = graph(tmp_path / "q.onnx", [value("x", *shape)], [value("y", *shape)], nodes, [("s", scale), ("z", zero)])
    assert inspect(path).precision == "int8"


def two_inputs(path):
    add = [helper.make_node("Add", ["x", "z"], ["y"])]
    return graph(path, [value("x", 1, 3, 8, 8), value("z", 1, 3, 8, 8)], [value("y", 1, 3, 8, 8)], add)


def no_input(path):
    constant = numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32))
    return graph(path, [], [value("y", 1, 3, 8, 8)], [helper.make_node("Constant", [], ["y"], value=constant)])


def one_channel(path):
    return graph(path, [value("x", 1, 1, 48, 48)], [value("y", 1, 1, 48, 48)], RELU)


def vector(path):
    return graph(path, [value("x", 1, 10)], [value("y", 1, 10)], RELU)


def integers(path):
    return graph(
        path,
        [value("x", 1, 3, 48, 48, dtype=TensorProto.INT64)],
        [value("y", 1, 3, 48, 48, dtype=TensorProto.INT64)],
        [helper.make_node("Identity", ["x"], ["y"])],
    )


def truncated(path):
    weight = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
    conv = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    graph(path, [value("x", 1, 3, 8, 8)], [value("y", 1, 3, 8, 8)], conv, [("w", weight)])
    path.write_bytes(path.read_bytes()[:-60])
    return path


def empty(path):
    path.write_bytes(b"")
    return path


def text(path):
    path.write_text("this is not a graph at all")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_inputs, "one image input and has 2"),
        (no_input, "one image input and has 0"),
        (one_channel, "1 channels"),
        (vector, "no batch of images"),
        (integers, "int64"),
        (truncated, "truncated"),
        (empty, "truncated"),
        (text, "truncated"),
        (lambda path: path, "no such file"),
    ],
)
def test_what_is_no_image_to_image_graph_is_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(ArtefactError, match=message) as caught:
        describe(make(tmp_path / "bad.onnx"))
    assert "\n" not in str(caught.value)


def test_initialisers_listed_as_inputs_do_not_count(tmp_path):
    conv = [helper.make_node("Conv", ["x", "w"], ["y"])]
    weight = np.zeros((3, 3, 1, 1), np.float32)
    inputs = [value("x", 1, 3, 48, 48), value("w", 3, 3, 1, 1)]
    path = graph(tmp_path / "a.onnx", inputs, [value("y", 1, 3, 48, 48)], conv, [("w", weight)])
    assert inspect(path).image.name == "x"
