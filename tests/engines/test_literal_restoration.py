"""Operators of restoration networks: values against other code, gradients against finite differences."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploy_robust.engines.literal import LiteralEngine

sys.path.insert(0, str(Path(__file__).parent))
import literal_graphs as g

DRAW = np.random.default_rng(5)
SHAPE = (2, 4, 7, 6)


def f(*shape):
    return DRAW.normal(0, 0.5, shape)


def i(*values):
    return np.array(values, np.int64)


def pool(op, **attributes):
    return (op, [], {"kernel_shape": [3, 3], "strides": [2, 2], **attributes})


def resize(scales, **attributes):
    return ("Resize", [None, np.array([1, 1, *scales], np.float32)], attributes)


# (operator, further inputs with None for one left out, attributes); the image is of SHAPE.
CASES = [
    *[pool(op, ceil_mode=1) for op in ("MaxPool", "AveragePool")],
    *[pool(op, ceil_mode=1, pads=[1, 1, 1, 1]) for op in ("MaxPool", "AveragePool")],
    *[pool(op, pads=[0, 1, 1, 2]) for op in ("MaxPool", "AveragePool")],
    *[pool(op, auto_pad=how) for op in ("MaxPool", "AveragePool") for how in ("SAME_UPPER", "SAME_LOWER", "VALID")],
    pool("AveragePool", pads=[0, 1, 1, 2], count_include_pad=1),
    pool("AveragePool", dilations=[2, 2]),
    pool("MaxPool", ceil_mode=1, pads=[0, 1, 1, 0], dilations=[2, 1]),
    *[
        ("Conv", [f(6, 2, 3, 4), f(6)], {"auto_pad": how, "strides": [2, 1], "group": 2})
        for how in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ],
    ("ConvTranspose", [f(4, 3, 4, 4), f(3)], {"strides": [2, 2], "pads": [0, 1, 2, 1], "output_padding": [1, 0]}),
    *[
        ("ConvTranspose", [f(4, 3, 3, 4), f(3)], {"strides": [2, 2], "auto_pad": how})
        for how in ("SAME_UPPER", "SAME_LOWER")
    ],
    ("ConvTranspose", [f(4, 3, 3, 3), f(3)], {"strides": [3, 2], "output_shape": [20, 12]}),
    *[
        resize(scales, mode=mode, **how)
        for scales in ((2, 1.5), (0.5, 0.4))
        for mode in ("linear", "cubic")
        for how in (
            {"coordinate_transformation_mode": "asymmetric"},
            {"antialias": 1},
            {"coordinate_transformation_mode": "half_pixel_symmetric"},
        )
    ],
    resize((2, 0.5), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    (
        "Resize",
        [np.array([0, 0, 0.2, -0.3, 1, 1, 1.1, 0.8], np.float32), None, i(2, 4, 5, 9)],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 0.5},
    ),
    *[
        (
            "GridSample",
            [DRAW.uniform(-1.3, 1.3, (2, 5, 3, 2))],
            {"mode": mode, "padding_mode": outside, "align_corners": 1},
        )
        for mode, outside in (("linear", "zeros"), ("cubic", "border"), ("nearest", "reflection"))
    ],
    (
        "DeformConv",
        [f(6, 2, 3, 3), f(2, 18, 4, 3), f(6), f(2, 9, 4, 3)],
        {"strides": [2, 2], "pads": [1, 0, 1, 1], "group": 2},
    ),
]
ONNXS_OWN = ("DeformConv",)
"""What ONNX Runtime's CPU provider does not run: ONNX's reference stands for it."""


def graph_of(op, further, attributes, shape=SHAPE, dtype=np.float32) -> onnx.ModelProto:
    names = ["" if value is None else f"i{n}" for n, value in enumerate(further)]
    held = [(n, v if v.dtype != np.float64 else v.astype(dtype)) for n, v in zip(names, further, strict=True) if n]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, n) for n, v in held],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def image(shape=SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def check_gradient(model, shape=SHAPE):
    assert torch.autograd.gradcheck(LiteralEngine(model).run, (image(shape).requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[2].values()))}")
def test_values_and_gradients(case):
    model = graph_of(*case)
    x = image().float()
    if case[0] in ONNXS_OWN:
        (right,) = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    else:
        right = g.on_runtime(model, x.numpy())["y"]
    np.testing.assert_allclose(LiteralEngine(model).run(x).numpy(), right, rtol=1e-5, atol=2e-6)
    check_gradient(graph_of(*case, dtype=np.float64))


@pytest.mark.parametrize(
    ("shape", "length", "attributes"),
    [
        ((2, 5, 6, 1), None, {}),
        ((2, 5, 6, 2), 8, {}),
        ((2, 5, 6, 1), None, {"onesided": 1}),
        ((2, 5, 6, 2), None, {"inverse": 1}),
    ],
)
def test_dft(shape, length, attributes):
    further = [None if length is None else np.array(length), np.array(-3)]
    model = graph_of("DFT", further, attributes, shape)
    x = image(shape).float()
    right = g.on_runtime(model, x.numpy())["y"]
    np.testing.assert_allclose(LiteralEngine(model).run(x).numpy(), right, rtol=1e-4, atol=1e-5)
    check_gradient(graph_of("DFT", further, attributes, shape, np.float64), shape)


def test_the_inverse_of_half_a_spectrum_is_the_real_signal():
    x = image((2, 5, 6, 1))
    half = LiteralEngine(graph_of("DFT", [None, np.array(-2)], {"onesided": 1}, x.shape, np.float64)).run(x)
    back = graph_of("DFT", [None, np.array(-2)], {"onesided": 1, "inverse": 1}, tuple(half.shape), np.float64)
    torch.testing.assert_close(LiteralEngine(back).run(half), x)


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_old_operator_sets_with_their_own_semantics(opset):
    def node(op, inputs, outputs, **attributes):
        return helper.make_node(op, inputs, outputs, **attributes)

    old = opset < 13
    nodes = [
        node("Softmax", ["x"], ["s"], **({} if old else {"axis": 1})),
        node("Split", ["s"] if old else ["s", "parts"], ["a", "b"], axis=1, **({"split": [3, 1]} if old else {})),
        node("ReduceSum", ["a"] if old else ["a", "ax"], ["r"], keepdims=0, **({"axes": [1]} if old else {})),
        node("Unsqueeze", ["r"] if old else ["r", "ax"], ["u"], **({"axes": [1]} if old else {})),
        node("Mul", ["u", "b"], ["m"]),
        node("Squeeze", ["m"] if old else ["m", "ax"], ["y"], **({"axes": [1]} if old else {})),
    ]
    weights = [numpy_helper.from_array(i(3, 1), "parts"), numpy_helper.from_array(i(1), "ax")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [] if old else weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    x = image().float()
    np.testing.assert_allclose(
        LiteralEngine(model).run(x).numpy(), g.on_runtime(model, x.numpy())["y"], rtol=1e-5, atol=1e-7
    )


def test_of_equal_values_the_first_are_taken_and_their_gradient_goes_there():
    x = torch.tensor([[1.0, 3.0, 3.0, 3.0, 2.0]]).requires_grad_()
    for largest, where in ((1, [0, 1, 1, 0, 0]), (0, [1, 0, 0, 0, 1])):
        model = graph_of("TopK", [i(2)], {"largest": largest}, (1, 5))
        model.graph.node[0].output.append("places")
        (slope,) = torch.autograd.grad(LiteralEngine(model).run(x).sum(), x)
        assert slope.tolist() == [where]


def test_torchs_own_antialiasing_is_what_its_exporter_means():
    x = image((1, 3, 12, 16)).float()
    for mode, torchs in (("linear", "bilinear"), ("cubic", "bicubic")):
        scales = np.array([1, 1, 0.5, 0.25], np.float32)
        a = {"cubic_coeff_a": -0.5} if mode == "cubic" else {}  # torch's antialiased cubic is PIL's
        model = graph_of("Resize", [None, scales], {"mode": mode, "antialias": 1, "exclude_outside": 1, **a}, x.shape)
        right = F.interpolate(x, size=(6, 4), mode=torchs, antialias=True)
        torch.testing.assert_close(LiteralEngine(model).run(x), right, rtol=1e-5, atol=1e-6)
