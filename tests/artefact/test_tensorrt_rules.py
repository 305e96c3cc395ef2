"""What TensorRT would refuse, on graphs written node by node, one broken rule each."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.artefact.tensorrt_rules import findings


def graph(*, zero=0, codes=np.int8, weight_axis=0, weight_scales=4, bias=False, scale=np.float32, opset=21, channels=1):
    """One convolution with quantised input and weights, every rule kept unless an argument says otherwise."""

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    weights = np.ones((4, 3, 3, 3), np.float32)
    initializers = [
        constant("s", np.full((channels,), 0.02, scale) if channels > 1 else np.asarray(0.02, scale)),
        constant("z", np.full((channels,), zero, codes) if channels > 1 else np.asarray(zero, codes)),
        constant("w", weights),
        constant("ws", np.full((weight_scales,), 0.01, np.float32)),
        constant("wz", np.zeros((weight_scales,), np.int8)),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q", axis=1),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq", axis=1),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], name="wq", axis=weight_axis),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], name="wdq", axis=weight_axis),
    ]
    inputs = ["xd", "wd"]
    if bias:
        initializers += [constant("b", np.zeros(4, np.int32)), constant("bs", np.float32(1e-4))]
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], name="bias"))
        inputs.append("bd")
    nodes.append(helper.make_node("Conv", inputs, ["y"], name="conv"))
    kind = TensorProto.FLOAT16 if scale is np.float16 else TensorProto.FLOAT
    image = helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])
    answer = helper.make_tensor_value_info("y", kind, [1, 4, 6, 6])
    made = helper.make_graph(nodes, "g", [image], [answer], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


def test_a_graph_that_keeps_every_rule_has_no_findings():
    assert findings(graph()) == []


@pytest.mark.parametrize(
    ("broken", "rule", "node"),
    [
        ({"zero": 3}, "zero-point", "q"),
        ({"codes": np.uint8}, "codes", "q"),
        ({"codes": np.uint8, "zero": 128}, "zero-point", "dq"),
        ({"weight_axis": 1, "weight_scales": 3}, "axis", "wdq"),
        ({"bias": True}, "bias", "bias"),
        ({"scale": np.float16, "opset": 18}, "half-quantiser", "q"),
        ({"channels": 3}, "per-channel", "q"),
    ],
)
def test_one_broken_rule_is_found_where_it_is(broken, rule, node):
    found = findings(graph(**broken))
    assert (rule, node) in {(finding.rule, finding.node) for finding in found}
    assert all(f"node {finding.node!r}" in str(finding) for finding in found)


def floats(codes=TensorProto.FLOAT8E4M3FN, weights=TensorProto.FLOAT8E4M3FN, saturate=1):
    """The same graph with 8-bit floats for codes."""
    model = graph()
    for tensor in model.graph.initializer:
        if tensor.name in ("z", "wz"):
            kind = codes if tensor.name == "z" else weights
            content = bytes(int(np.prod(tensor.dims)))
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, tensor.dims, content, raw=True))
    model.graph.node[0].attribute.append(helper.make_attribute("saturate", saturate))
    return model


def test_e4m3_codes_keep_the_rules_and_other_floats_do_not():
    assert findings(floats()) == []
    for other in (TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E4M3FNUZ):
        assert {(f.rule, f.node) for f in findings(floats(other, other))} >= {("codes", "q"), ("codes", "wq")}
    assert [(f.rule, f.node) for f in findings(floats(weights=TensorProto.INT8))] == [("mixed", "conv")]
    assert [(f.rule, f.node) for f in findings(floats(saturate=0))] == [("saturate", "q")]


def test_a_computed_scale_or_zero_point_is_found():
    model = graph()
    model.graph.node.insert(0, helper.make_node("Identity", ["s"], ["computed"], name="compute"))
    model.graph.node[1].input[1] = "computed"
    assert [f.rule for f in findings(model)] == ["dynamic-scale"]
    model = graph()
    model.graph.node.insert(0, helper.make_node("Identity", ["z"], ["computed"], name="compute"))
    model.graph.node[1].input[2] = "computed"
    assert "zero-point" in [f.rule for f in findings(model)]


def test_a_quantiser_without_zero_point_makes_unsigned_codes():
    model = graph()
    del model.graph.node[0].input[2]
    del model.graph.node[1].input[2]
    assert [(f.rule, f.node) for f in findings(model)] == [("codes", "q"), ("codes", "dq")]
    model.graph.node[0].attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))
    assert findings(model) == []


def test_transposed_convolutions_must_not_be_scaled_per_channel():
    model = graph()
    conv = model.graph.node[-1]
    conv.op_type = "ConvTranspose"
    assert [f.rule for f in findings(model)] == ["axis"]


def test_quantisers_inside_a_branch_are_found():
    model = graph()
    branch = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"], name="inner")],
        "then",
        [],
        [helper.make_tensor_value_info("a", TensorProto.INT8, None)],
    )
    model.graph.node.append(helper.make_node("If", ["c"], ["r"], name="if", then_branch=branch, else_branch=branch))
    assert {f.rule for f in findings(model)} == {"nested"}
