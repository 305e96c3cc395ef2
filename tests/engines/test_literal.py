"""What the literal engine promises beside parity: narrow types, gradients of quantisers, ranges, refusals."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from deploy_robust.app.registries import engine_kind
from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.engine import Engine, EngineOptions
from deploy_robust.engines.literal import KIND, LiteralEngine
from deploy_robust.engines.literal.engine import LiteralKind
from deploy_robust.errors import ArtefactError, EngineDefect, UsageError

SHAPE = ["n", 3, "h", "w"]
EYE = np.eye(3, dtype=np.float32)[:, :, None, None]


def model(nodes, weights=None, opset=21, dtype=TensorProto.FLOAT, out=None, outputs=None) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, SHAPE)],
        outputs or [helper.make_tensor_value_info("y", out or dtype, SHAPE)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.vendor", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the-{op}", **attributes)


def image(*shape, low=0.0, high=1.0):
    return torch.rand(*(shape or (1, 3, 32, 32)), generator=torch.Generator().manual_seed(0)) * (high - low) + low


def conv_chain(dtype, numpy_dtype) -> onnx.ModelProto:
    """x 300, x 300, / 300 in 1x1 convolutions: at x = 1 the middle is 90,000, above what float16 holds."""
    weights = {n: (EYE * f).astype(numpy_dtype) for n, f in (("a", 300), ("b", 300), ("c", 1 / 300))}
    nodes = [node("Conv", [i, w], [o]) for i, w, o in (("x", "a", "p"), ("p", "b", "q"), ("q", "c", "y"))]
    return model(nodes, weights, dtype=dtype)


def test_float16_overflows_as_it_does_on_hardware_and_as_onnx_runtime_hides():
    engine = LiteralEngine(conv_chain(TensorProto.FLOAT16, np.float16))
    assert engine.capabilities.precision == "fp16"
    x = torch.full((1, 3, 4, 4), 0.5)
    torch.testing.assert_close(engine.run(x), 300 * x, rtol=2e-3, atol=0)
    assert engine.run(2 * x).isinf().all() or engine.run(2 * x).isnan().all()


def test_float16_rounds_after_every_node():
    weights = {"k": np.float16(2048)}
    engine = LiteralEngine(
        model([node("Add", ["x", "k"], ["s"]), node("Sub", ["s", "k"], ["y"])], weights, dtype=TensorProto.FLOAT16)
    )
    x = image(1, 3, 16, 16, high=9.0)
    half = x.half()
    assert torch.equal(engine.run(x), ((half + 2048) - 2048).float())


def test_bfloat16_rounds_after_every_node():
    cast = [node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16), node("Mul", ["b", "b"], ["m"])]
    engine = LiteralEngine(model([*cast, node("Cast", ["m"], ["y"], to=TensorProto.FLOAT)]))
    x = image()
    right = x.bfloat16() * x.bfloat16()
    assert torch.equal(engine.run(x), right.float())


def test_gradients_through_half_precision_do_not_underflow(tmp_path):
    path = tmp_path / "half.onnx"
    onnx.save_model(conv_chain(TensorProto.FLOAT16, np.float16), str(path))
    engine, io = KIND.open(path, EngineOptions())
    assert io.dtype == "float32"
    x = image().mul(0.1).requires_grad_()
    (gradient,) = torch.autograd.grad((engine.run(x) * 1e-12).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 3e-10), rtol=2e-3, atol=0)


def test_the_watch_sees_what_float16_would_lose_in_a_float32_graph():
    engine = LiteralEngine(conv_chain(TensorProto.FLOAT, np.float32))
    x = torch.ones(1, 3, 4, 4)
    x[..., :2] = 0.5
    with engine.watch() as watch:
        engine.run(x)
    assert [(r.value, r.share_above) for r in watch.overflowing] == [("q", 0.5)]
    assert watch.largest(1)[0].peak == pytest.approx(90_000)
    engine.run(100 * x)  # no longer watched
    assert watch.largest(1)[0].peak == pytest.approx(90_000)


def quantiser(zero, scale=1 / 255) -> onnx.ModelProto:
    """Quantise and back."""
    weights = {"s": np.float32(scale), "z": zero}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    return model(nodes, weights)


@pytest.mark.parametrize("zero", [np.uint8(0), np.uint8(200), np.int8(0), np.int8(-5)])
def test_quantisers_round_half_to_even_and_saturate(zero):
    x = torch.cat(
        [image(1, 3, 64, 64, low=-3, high=3), (torch.arange(3 * 64 * 64) * 0.5 - 3000).view(1, 3, 64, 64) / 64]
    )
    info = np.iinfo(zero.dtype)
    scale = np.float32(1 / 64)
    codes = np.clip(np.rint(x.numpy() / scale) + float(zero), info.min, info.max)
    right = ((codes - float(zero)) * scale).astype(np.float32)
    assert np.array_equal(LiteralEngine(quantiser(zero, scale)).run(x).numpy(), right)


@pytest.mark.parametrize(("gradient", "right"), [("clamp", [0, 1, 1, 1, 0]), ("pass", [1, 1, 1, 1, 1])])
def test_the_gradient_stops_where_the_quantiser_saturated(gradient, right):
    engine = LiteralEngine(quantiser(np.uint8(0)), gradient=gradient)
    x = torch.tensor([-0.3, 0.0, 0.4, 1.0, 1.2]).expand(1, 3, 1, 5).clone().requires_grad_()
    (found,) = torch.autograd.grad(engine.run(x).sum(), x)
    assert found[0, 0, 0].tolist() == right


def test_e4m3_codes_are_those_of_onnx_runtime_and_of_onnxs_evaluator():
    """Ties, subnormal numbers, what is too small and what is too large; per tensor and per channel."""
    edges = [0, 1, 1.5, -2, 17 / 16, 19 / 16, 2**-9, 2**-10, 3 * 2**-10, 448, 464, 470, -1e6, 2**-20]
    x = torch.zeros(1, 3, 2, len(edges))
    x[:] = torch.tensor(edges)
    x[:, :, 1] *= 0.3
    scales = {"s": np.float32(1.0), "c": np.asarray([1.0, 0.37, 3e-3], np.float32)}
    kind = TensorProto.FLOAT8E4M3FN
    zeros = [helper.make_tensor(f"z{k}", kind, v.shape, bytes(v.size), raw=True) for k, v in scales.items()]
    nodes = []
    for name in scales:
        nodes.append(helper.make_node("QuantizeLinear", ["x", name, f"z{name}"], [f"q{name}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{name}", name, f"z{name}"], [f"d{name}"]))
    made = model([*nodes, node("Add", ["ds", "dc"], ["y"])], scales)
    made.graph.initializer.extend(zeros)
    onnx.checker.check_model(made, full_check=True)
    found = LiteralEngine(made).run(x).numpy()
    (evaluated,) = ReferenceEvaluator(made).run(None, {"x": x.numpy()})
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert np.array_equal(found, session.run(None, {"x": x.numpy()})[0])
    assert np.array_equal(found, evaluated)


def test_codes_read_by_two_nodes_are_not_joined_and_agree():
    weights = {"s": np.float32(0.1), "z": np.uint8(3)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        node("DequantizeLinear", ["q", "s", "z"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    x = image().requires_grad_()
    y = LiteralEngine(model(nodes, weights)).run(x)
    torch.testing.assert_close(y, 2 * LiteralEngine(quantiser(np.uint8(3), 0.1)).run(x), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 2.0))


def test_a_start_that_the_input_quantiser_swallows_is_told_and_left():
    engine = LiteralEngine(quantiser(np.uint8(0)))
    x = (image() * 255).round() / 255

    def restore(z):
        return engine.run(z).square()

    def crafted(eps):
        task = Task(x, torch.full((1, 1, 1, 1), eps / 255), 0, (("a",),), restore, restore(x).detach())
        return pgd_lmse(iterations=4).craft(task)

    dead = crafted(0.4)
    assert dead.facts["dead_start"].all()
    assert dead.facts["objective_at_start"].item() == 0
    live = crafted(2)
    assert not live.facts["dead_start"].any()
    assert live.facts["objective"].item() > 0


def test_nodes_in_any_order_and_constants_behind_them():
    nodes = [
        node("Relu", ["m"], ["y"]),
        node("Mul", ["x", "k"], ["m"]),
        node("Neg", ["c"], ["k"]),
        helper.make_node("Constant", [], ["c"], value_float=2.0),
    ]
    x = image(low=-1)
    torch.testing.assert_close(LiteralEngine(model(nodes)).run(x), torch.relu(-2 * x))


def test_opened_and_used_in_inference_mode_it_still_gives_gradients_later():
    with torch.inference_mode():
        engine = LiteralEngine(quantiser(np.int8(0)))
        engine.run(image())
    x = image().requires_grad_()
    assert torch.autograd.grad(engine.run(x).sum(), x)[0].any()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (
            node("ConvTranspose", ["x", "w"], ["y"], auto_pad="SAME_UPPER", pads=[0, 0, 1, 1]),
            "auto_pad SAME_UPPER with pads",
        ),
        (node("Conv", ["x", "w"], ["y"], auto_pad="SAME"), "auto_pad SAME"),
        (node("Resize", ["x", "", "s"], ["y"], coordinate_transformation_mode="tf_half_pixel_for_nn"), "tf_half_pixel"),
        (node("Resize", ["x", "", "s"], ["y"], mode="nearest", antialias=1), "antialias"),
        (node("DequantizeLinear", ["x", "s"], ["y"], block_size=2), "blocked"),
        (node("LSTM", ["x", "w", "w"], ["y"], hidden_size=3), "not known"),
        (node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2]), "positions"),
        (node("MaxPool", ["x"], ["y"], strides=[2, 2]), "cannot be read.*kernel_shape"),
        (node("Relu", ["x"], ["y"], slope=0.1), "attribute slope"),
        (node("Conv", ["x", "w"], ["y"], activation="Relu"), "attribute activation"),
        (node("QuantizeLinear", ["x", "s"], ["y"], rounding="up"), "attribute rounding"),
        (node("LayerNormalization", ["x", "s"], ["y"], stash_type=11), "stash_type"),
        (helper.make_node("Fused", ["x"], ["y"], name="the-Fused", domain="com.vendor"), "vendor domain"),
    ],
)
def test_what_is_not_covered_is_refused_with_the_nodes_name(bad, why):
    graph = model([bad], {"w": EYE, "s": np.ones(4, np.float32)})
    with pytest.raises(ArtefactError, match=why) as caught:
        LiteralEngine(graph)
    assert f"the-{bad.op_type}" in str(caught.value)
    assert bad.op_type in str(caught.value)


def test_old_and_new_operator_sets_are_refused():
    for opset in (10, 24):
        with pytest.raises(ArtefactError, match="11 to 23"):
            LiteralEngine(model([node("Relu", ["x"], ["y"])], opset=opset))


def test_by_name_from_the_registry(graphs, tmp_path):
    kind = engine_kind("literal")
    engine, io = kind.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions())
    assert isinstance(engine, Engine)
    assert (engine.capabilities.differentiable, engine.capabilities.arithmetic) == (True, "literal")
    assert (engine.capabilities.precision, io.dtype) == ("fp32", "float32")
    x = image()
    out = torch.empty_like(x)
    assert engine.run(x, out=out) is out
    torch.testing.assert_close(out, torch.nn.functional.conv2d(x, graphs.WEIGHT, padding=1), atol=1e-5, rtol=0)
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(x)


def test_a_node_that_fails_is_the_engines_defect_and_named(graphs, tmp_path):
    engine, _ = LiteralKind().open(graphs.crashing_graph(tmp_path / "a.onnx"), EngineOptions())
    with pytest.raises(EngineDefect, match="Reshape"):
        engine.run(image())
