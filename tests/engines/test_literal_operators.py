"""Single operators of foreign graphs against ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.engines.literal import LiteralEngine

sys.path.insert(0, str(Path(__file__).parent))
import literal_graphs as g

DRAW = np.random.default_rng(3)


def f(*shape):
    return DRAW.normal(0, 0.5, shape).astype(np.float32)


def i(*values):
    return np.array(values, np.int64)


# (operator, further inputs, attributes); the input is (2, 4, 8, 6).
CASES = [
    *[
        (op, [], {})
        for op in [
            "Abs",
            "Exp",
            "Floor",
            "Ceil",
            "Round",
            "Neg",
            "Sign",
            "Sin",
            "Cos",
            "Erf",
            "Softplus",
            "Softsign",
            "HardSwish",
            "Mish",
        ]
    ],
    *[
        (op, [], {})
        for op in [
            "Elu",
            "Selu",
            "Celu",
            "HardSigmoid",
            "ThresholdedRelu",
            "LeakyRelu",
            "Gelu",
            "Reciprocal",
            "Identity",
        ]
    ],
    *[
        (op, [i(2, 3)], {})
        for op in ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd"]
    ],
    *[(op, [i(1)], {"keepdims": 0}) for op in ["ReduceLogSumExp", "ReduceSumSquare"]],
    *[(op, [f(4, 1, 1)], {}) for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Sum", "Mean"]],
    ("PRelu", [f(4, 8, 6)], {}),
    ("Pow", [np.float32(2)], {}),
    ("Clip", [np.float32(-0.2), np.float32(0.3)], {}),
    ("Conv", [f(6, 2, 3, 3), f(6)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", [f(6, 4, 3, 3)], {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ("ConvTranspose", [f(4, 3, 4, 4), f(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("GlobalAveragePool", [], {}),
    ("GlobalMaxPool", [], {}),
    ("InstanceNormalization", [f(4), f(4)], {}),
    ("BatchNormalization", [f(4), f(4), f(4), np.abs(f(4)) + 0.5], {}),
    ("GroupNormalization", [f(4), f(4)], {"num_groups": 2}),
    ("LayerNormalization", [f(6), f(6)], {"axis": -1}),
    ("Softmax", [], {"axis": 1}),
    ("LogSoftmax", [], {}),
    ("MatMul", [f(6, 5)], {}),
    ("DepthToSpace", [], {"blocksize": 2}),
    ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [], {"blocksize": 2}),
    *[("Pad", [i(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": mode}) for mode in ("constant", "reflect", "edge")],
    ("Pad", [i(1, 0, -1, 0, 0, 0, 0, 2), np.float32(0.7)], {}),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("Flatten", [], {"axis": 2}),
    ("Reshape", [i(0, -1, 3)], {}),
    ("Unsqueeze", [i(0, -1)], {}),
    ("Tile", [i(1, 2, 1, 3)], {}),
    ("Expand", [i(3, 1, 4, 1, 6)], {}),
    ("Slice", [i(1, 7), i(4, -100), i(1, 2), i(1, -2)], {}),
    ("Gather", [i(2, -1)], {"axis": 1}),
    ("CumSum", [np.array(2, np.int64)], {}),
    ("Trilu", [], {"upper": 0}),
    *[
        ("Resize", [np.zeros(0, np.float32), np.array([1, 1, s, s], np.float32)], {"mode": mode, **how})
        for s in (2, 0.5, 1.5)
        for mode, how in (
            ("nearest", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
            ("nearest", {}),
            ("nearest", {"nearest_mode": "round_prefer_ceil"}),
            ("linear", {}),
            ("linear", {"coordinate_transformation_mode": "align_corners"}),
            ("linear", {"coordinate_transformation_mode": "pytorch_half_pixel"}),
            ("cubic", {}),
        )
    ],
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[2].values()))}")
def test_operator(case):
    op, further, attributes = case
    names = [f"i{n}" for n in range(len(further))]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 8, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names, further, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(4)).requires_grad_()
    right = g.on_runtime(model, x.detach().numpy())["y"]
    y = LiteralEngine(model).run(x)
    assert y.dtype == torch.float32
    np.testing.assert_allclose(y.detach().numpy(), right, rtol=1e-5, atol=2e-6)
    torch.autograd.grad(y.sum(), x)
