"""What a graph is judged as: by the work on the way from image to output, and by nothing else that it holds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.artefact.precision import Shares, precision_of, shares_of
from deploy_robust.errors import ArtefactError

node = helper.make_node
IMAGE = ("n", 3, "h", "w")


class Net:
    """A graph that grows from ``x`` to ``y``; every convolution keeps height and width."""

    def __init__(self):
        self.nodes, self.weights, self.last, self.count, self.functions = [], [], "x", 0, []
        self.draw = np.random.default_rng(0)

    def name(self, stem="v"):
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, array):
        self.weights.append(numpy_helper.from_array(np.asarray(array), self.name("c")))
        return self.weights[-1].name

    def add(self, op, *inputs, **attributes):
        name = self.name()
        self.nodes.append(node(op, list(inputs), [name], **attributes))
        self.last = name
        return name

    def kernel(self, out, into, size=3, dtype=np.float32):
        return self.draw.normal(size=(out, into, size, size)).astype(dtype)

    def conv(self, out=8, into=8, size=3, x=None, dtype=np.float32):
        return self.add(
            "Conv", x or self.last, self.constant(self.kernel(out, into, size, dtype)), pads=[size // 2] * 4
        )

    def quantised(self, x, codes=np.uint8, scale=0.02, dtype=np.float32):
        s, z = self.constant(dtype(scale)), self.constant(codes(0))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, s, z), s, z)

    def stored(self, out=8, into=8, size=3, codes=np.int8):
        """Weights as codes and a dequantiser."""
        w = self.constant(self.draw.integers(-100, 100, (out, into, size, size)).astype(codes))
        return self.add("DequantizeLinear", w, self.constant(np.float32(0.01)), self.constant(codes(0)))

    def conv8(self, out=8, into=8, size=3, x=None):
        x = self.quantised(x or self.last)
        return self.add("Conv", x, self.stored(out, into, size), pads=[size // 2] * 4)

    def model(self, opset=21, image=IMAGE):
        self.nodes.append(node("Identity", [self.last], ["y"]))
        x, y = (helper.make_tensor_value_info(name, T.FLOAT, list(image)) for name in "xy")
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.weights)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ours", 1)],
            ir_version=10,
            functions=self.functions,
        )


def ends(net, middle):
    net.conv(8, 3)
    middle(net)
    net.conv(3, 8)
    return net


def float_net():
    return ends(Net(), lambda net: [net.conv() for _ in range(4)])


def int8_net():
    return ends(Net(), lambda net: [net.conv8() for _ in range(8)])


def quantised_weights_alone(net):
    for _ in range(8):
        net.add("Conv", net.last, net.stored(), pads=[1] * 4)


def half_weights_made_floats(net):
    for _ in range(4):
        x = net.last
        w = net.add("Cast", net.constant(net.kernel(8, 8, dtype=np.float16)), to=T.FLOAT)
        net.add("Conv", x, w, pads=[1] * 4)


def half(net, count=4):
    net.add("Cast", net.last, to=T.FLOAT16)
    for _ in range(count):
        net.conv(dtype=np.float16)
    net.add("Cast", net.last, to=T.FLOAT)


def dynamic(net):
    for _ in range(4):
        codes, scale, zero = net.name(), net.name(), net.name()
        net.nodes.append(node("DynamicQuantizeLinear", [net.last], [codes, scale, zero]))
        w = net.constant(net.draw.integers(-9, 9, (8, 8, 3, 3)).astype(np.int8))
        net.add("Cast", net.add("ConvInteger", codes, w, zero, pads=[1] * 4), to=T.FLOAT)


def integer_operator(net):
    s, z, wz = net.constant(np.float32(0.1)), net.constant(np.uint8(0)), net.constant(np.int8(0))
    q = net.add("QuantizeLinear", net.last, s, z)
    for _ in range(4):
        w = net.constant(net.draw.integers(-9, 9, (8, 8, 3, 3)).astype(np.int8))
        q = net.add("QLinearConv", q, s, z, w, s, wz, s, z, pads=[1] * 4)
    net.add("DequantizeLinear", q, s, z)


def eight_bit_floats(net):
    for _ in range(8):
        s, z = net.constant(np.float32(0.1)), net.name("z")
        net.weights.append(helper.make_tensor(z, T.FLOAT8E4M3FN, [], b"\0", raw=True))
        x = net.add("DequantizeLinear", net.add("QuantizeLinear", net.last, s, z), s, z)
        w = net.constant(net.kernel(8, 8))
        w = net.add("DequantizeLinear", net.add("QuantizeLinear", w, s, z), s, z)
        net.add("Conv", x, w, pads=[1] * 4)


def in_a_function(net):
    body = [
        node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "s"], ["dw"]),
        node("Conv", ["d", "dw"], ["b"], pads=[1] * 4),
    ]
    opset = [helper.make_opsetid("", 21)]
    net.functions.append(helper.make_function("ours", "Block", ["a", "s", "z", "w"], ["b"], body, opset))
    for _ in range(8):
        w = net.constant(net.draw.integers(-9, 9, (8, 8, 3, 3)).astype(np.int8))
        net.add("Block", net.last, net.constant(np.float32(0.1)), net.constant(np.uint8(0)), w, domain="ours")


def of_runtime(net):
    for _ in range(4):
        w = net.constant(net.kernel(8, 8))
        net.add("FusedConv", net.last, w, pads=[1] * 4, activation="Relu", domain="com.microsoft")


@pytest.mark.parametrize(
    ("middle", "judged", "named"),
    [
        (lambda net: [net.conv() for _ in range(4)], "fp32", "fp32 100 %"),
        (lambda net: [net.conv8() for _ in range(8)], "int8", "int8 91 %, fp32 9 %"),
        (quantised_weights_alone, "fp32", "fp32 100 %"),
        (half_weights_made_floats, "fp32", "fp32 100 %"),
        (half, "fp16", "fp16 84 %, fp32 16 %"),
        (lambda net: (half(net, 1), net.conv()), "fp32", "fp32 64 %, fp16 36 %"),
        (dynamic, "int8", "int8 84 %, fp32 16 %"),
        (integer_operator, "int8", "int8 84 %, fp32 16 %"),
        (eight_bit_floats, "fp8", "fp8 91 %, fp32 9 %"),
        (in_a_function, "int8", "int8 91 %, fp32 9 %"),
        (of_runtime, "fp32", "fp32 100 %"),
    ],
)
def test_what_multiplies_decides(middle, judged, named):
    shares = shares_of(ends(Net(), middle).model())
    assert (shares.judged, str(shares)) == (judged, named)


def side(net, x, *, heavy=32):
    """Far more 8-bit work than the network has, on the image; a value of three channels."""
    x = net.conv8(heavy, 3, x=x)
    for _ in range(3):
        x = net.conv8(heavy, heavy, x=x)
    return net.conv8(3, heavy, x=x)


def times_zero(net, main):
    net.add("Add", main, net.add("Mul", side(net, "x"), net.constant(np.float32(0))))


def zero_times_computed(net, main):
    zero = net.add("Sub", net.constant(np.float32(3)), net.constant(np.float32(3)))
    net.add("Add", main, net.add("Mul", side(net, "x"), zero))


def minus_itself(net, main):
    other = side(net, "x")
    net.add("Add", main, net.add("Sub", other, other))


def zero_weights(net, main):
    net.add("Add", main, net.add("Conv", side(net, "x"), net.constant(np.zeros((3, 3, 1, 1), np.float32))))


def too_small_to_be_seen(net, main):
    net.add("Add", main, net.add("Mul", net.quantised(side(net, "x")), net.constant(np.float32(1e-8))))


def unused(net, main):
    side(net, "x")
    net.last = main


def of_a_constant(net, main):
    net.add("Add", main, side(net, net.constant(np.ones((1, 3, 8, 8), np.float32))))


def where_never(net, main):
    net.add("Where", net.constant(np.array(False)), side(net, "x"), main)


def if_never(net, main, condition=None):
    before = len(net.nodes)
    other = side(net, "x")
    taken, net.nodes[before:] = net.nodes[before:], []
    same = [node("Identity", [main], [net.name()])]
    value = helper.make_tensor_value_info
    branches = [
        helper.make_graph(nodes, "b", [], [value(name, T.FLOAT, None)])
        for nodes, name in ((taken, other), (same, same[0].output[0]))
    ]
    condition = condition or net.constant(np.array(False))
    net.add("If", condition, then_branch=branches[0], else_branch=branches[1])


def if_of_a_size(net, main):
    rows = net.add("Gather", net.add("Shape", "x"), net.constant(np.array(0)))
    if_never(net, main, net.add("Greater", rows, net.constant(np.array(100))))


def where_of_a_size(net, main):
    rows = net.add("Gather", net.add("Shape", "x"), net.constant(np.array(0)))
    net.add("Where", net.add("Greater", rows, net.constant(np.array(100))), side(net, "x"), main)


def where_of_a_pixel(net, main):
    bright = net.add("Greater", "x", net.constant(np.float32(1e9)))
    net.add("Where", bright, side(net, "x"), main)


def round_an_identity(net, main):
    net.add("Identity", net.quantised(net.add("Identity", main)))


def idle_quantiser(net, main):
    net.add("Add", main, net.quantised(net.constant(np.zeros(1, np.float32))))


def unused_half(net, main):
    net.constant(np.zeros(200_000, np.float16))
    net.last = main


def tiny_half(net, main):
    net.add("Cast", net.add("Relu", net.add("Cast", main, to=T.FLOAT16)), to=T.FLOAT)


CHEATS = [
    times_zero,
    zero_times_computed,
    minus_itself,
    zero_weights,
    too_small_to_be_seen,
    unused,
    of_a_constant,
    where_never,
    if_never,
    if_of_a_size,
    where_of_a_size,
    where_of_a_pixel,
    round_an_identity,
    idle_quantiser,
    unused_half,
    tiny_half,
]


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_touches_nothing_counts_nothing(cheat):
    net = float_net()
    cheat(net, net.last)
    assert str(shares_of(net.model())) == "fp32 100 %"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(CHEATS), max_size=4))
def test_neither_does_any_number_of_them(cheats):
    net = float_net()
    for cheat in cheats:
        cheat(net, net.last)
    assert precision_of(net.model()) == "fp32"


def test_of_a_branch_nobody_can_decide_the_more_exact_side_counts():
    """The heavy side is taken for batches of more than 100 only."""
    net = Net()
    before = net.conv(8, 3)
    nodes, net.nodes = net.nodes, []
    exact = [net.conv(x=before if i == 0 else None) for i in range(2)][-1]
    first, net.nodes = net.nodes, []
    coarse = net.conv8(x=before)
    second, net.nodes = net.nodes, nodes
    value = helper.make_tensor_value_info
    bodies = [helper.make_graph(n, "b", [], [value(v, T.FLOAT, None)]) for n, v in ((second, coarse), (first, exact))]
    rows = net.add("Gather", net.add("Shape", "x"), net.constant(np.array(0)))
    many = net.add("Greater", rows, net.constant(np.array(100)))
    net.add("If", many, then_branch=bodies[0], else_branch=bodies[1])
    net.conv(3, 8)
    assert str(shares_of(net.model())) == "fp32 100 %"


def test_a_loop_counts_as_often_as_it_runs():
    def looped(trips):
        net = Net()
        start = net.conv(8, 3)
        outer, net.nodes = net.nodes, []
        end = net.conv8(x="carried")
        inner, net.nodes = net.nodes, outer
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [node("Identity", ["go"], ["going"]), *inner],
            "body",
            [value("i", T.INT64, []), value("go", T.BOOL, []), value("carried", T.FLOAT, None)],
            [value("going", T.BOOL, []), value(end, T.FLOAT, None)],
        )
        net.add("Loop", net.constant(np.array(trips, np.int64)), "", start, body=body)
        net.conv(3, 8)
        return shares_of(net.model()).work

    one, ten = looped(1), looped(10)
    assert ten["int8"] == pytest.approx(10 * one["int8"])
    assert ten["fp32"] == one["fp32"]


def test_work_is_counted_in_multiply_accumulates_of_one_image():
    net = Net()
    net.conv(8, 3)
    net.conv(3, 8, 1)
    assert shares_of(net.model()).work == {"fp32": 256 * 256 * (3 * 8 * 9 + 8 * 3)}
    assert shares_of(net.model(image=(4, 3, 16, 32))).work["fp32"] == 4 * 16 * 32 * (3 * 8 * 9 + 24)


def test_matrices_count_rows_times_columns_times_what_is_summed():
    net = Net()
    flat = net.add("Reshape", "x", net.constant(np.array([3, 16 * 16], np.int64)))
    net.add("Gemm", flat, net.constant(np.ones((64, 256), np.float32)), transB=1)
    net.add("MatMul", net.last, net.constant(np.ones((64, 256), np.float32)))
    net.add("Reshape", net.last, net.constant(np.array([1, 3, 16, 16], np.int64)))
    assert shares_of(net.model(image=(1, 3, 16, 16))).work == {"fp32": 3 * 64 * 256 + 3 * 256 * 64}


def test_where_sizes_cannot_be_inferred_weights_decide():
    net = int8_net()
    net.nodes.insert(1, node("Unheard", ["v1" if net.nodes[0].output[0] == "v1" else net.nodes[0].output[0]], ["odd"]))
    net.nodes[1].domain = "ours"
    for each in net.nodes[2:]:
        each.input[:] = ["odd" if name == net.nodes[0].output[0] else name for name in each.input]
    shares = shares_of(net.model())
    assert (shares.by_weights, shares.judged) == (True, "int8")


def test_without_products_the_operators_on_the_way_decide():
    net = Net()
    net.add("Relu", "x")
    assert precision_of(net.model()) == "fp32"
    net = Net()
    net.quantised(net.add("Relu", net.quantised("x")))
    assert precision_of(net.model()) == "int8"
    net = Net()
    net.add("Mul", "x", net.constant(np.float32(1.03)))
    net.quantised(net.last)
    assert precision_of(net.model()) == "fp32"


@given(st.dictionaries(st.sampled_from(["fp32", "fp16", "bf16", "int8", "fp8", "int16", "int4"]), st.floats(0, 1e12)))
def test_the_rule_never_takes_a_looser_type_than_two_thirds_bear_out(work):
    shares, loose = Shares(work), {"fp32": 0, "fp16": 1, "bf16": 2, "fp8": 3, "int8": 4}
    total = sum(work.values())
    exact = sum(value for kind, value in work.items() if loose[{"int16": "fp16", "int4": "int8"}.get(kind, kind)] == 0)
    assert shares.judged in loose
    if total and exact >= total / 2:
        assert shares.judged == "fp32"
    assert str(shares)


def test_claims_of_the_file_itself_must_be_true(tmp_path):
    model = float_net().model()
    helper.set_model_props(model, {"deploy_robust.precision": "int8"})
    onnx.save_model(model, str(tmp_path / "a.onnx"))
    with pytest.raises(ArtefactError, match=r"says int8, and the graph computes fp32 100 %") as caught:
        inspect(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    helper.set_model_props(model, {"deploy_robust.precision": "fp32"})
    onnx.save_model(model, str(tmp_path / "a.onnx"))
    assert inspect(tmp_path / "a.onnx").work == "fp32 100 %"


def test_zero_weights_are_seen_in_external_data(tmp_path):
    net = float_net()
    zero_weights(net, net.last)
    onnx.save_model(
        net.model(), str(tmp_path / "a.onnx"), save_as_external_data=True, location="a.data", size_threshold=0
    )
    assert inspect(tmp_path / "a.onnx").work == "fp32 100 %"


OPERATORS = [
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "ConvInteger", "Einsum", "LSTM"),
    *("Attention", "QuantizeLinear", "DequantizeLinear", "Where", "Clip", "Pad", "Div", "Add", "Sub", "Mul", "Concat"),
    *("Shape", "Reshape", "Cast", "If", "Loop", "Constant", "Tanh", "Relu", "FusedConv", "Gather"),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPERATORS), st.lists(st.integers(0, 9), max_size=4), st.integers(0, 2), st.booleans()
        ),
        max_size=12,
    )
)
def test_a_graph_of_nonsense_is_counted_somehow_and_never_a_crash(drawn):
    net, names = Net(), ["x", ""]
    for array in (
        np.float32(0),
        np.zeros((8, 3, 3, 3), np.float32),
        np.int64(3),
        np.array([], np.float32),
        np.array(True),
    ):
        names.append(net.constant(array))
    for op, inputs, outputs, foreign in drawn:
        made = [net.name() for _ in range(outputs)]
        chosen = [names[i % len(names)] for i in inputs]
        net.nodes.append(node(op, chosen, made, domain="ours" if foreign else ""))
        names += made
    net.last = names[-1] or "x"
    shares = shares_of(net.model())
    assert shares.judged in ("fp32", "fp16", "bf16", "int8", "fp8")
    assert str(shares)
