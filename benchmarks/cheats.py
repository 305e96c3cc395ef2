"""Engines that cheat or are damaged, made by editing exported graphs; `fooled.py` runs them through the gate.

Each function takes the fp32 exports of a plain network and of its robust twin and returns an edited model. The kinds
are ways in which a PASS could be had for the wrong reason, not a list of known engines: a new way is a new function
here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onnx import NodeProto

node = helper.make_node


class Edit:
    """A copy of a graph with one image input and one image output, to be put behind and in front of other nodes."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(str(path))
        del self.model.metadata_props[:]  # a supplier's file: nothing says where it comes from
        self.graph = self.model.graph
        self.input, self.output = self.graph.input[0].name, self.graph.output[0].name

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A constant of the graph; its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def before(self, *nodes: NodeProto) -> Edit:
        """The network sees what the last of the nodes writes instead of the image."""
        for each in self.graph.node:
            each.input[:] = [nodes[-1].output[0] if name == self.input else name for name in each.input]
        for each in reversed(nodes):
            self.graph.node.insert(0, each)
        return self

    def after(self, *nodes: NodeProto) -> Edit:
        """The nodes read ``inner`` and write the answer."""
        for each in self.graph.node:
            each.input[:] = ["inner" if name == self.output else name for name in each.input]
            each.output[:] = ["inner" if name == self.output else name for name in each.output]
        self.graph.node.extend(nodes)
        return self

    def renamed(self, prefix: str) -> Edit:
        """All names but the input's behind a prefix, so that two graphs fit into one."""
        for weight in self.graph.initializer:
            weight.name = prefix + weight.name
        for each in self.graph.node:
            each.name = prefix + each.name
            each.input[:] = [name if name in ("", self.input) else prefix + name for name in each.input]
            each.output[:] = [name and prefix + name for name in each.output]
        return self


# -- hidden gradients: what a camera delivers passes unchanged, what an attack differentiates does not


def _levels(g: Edit, nodes: Callable[[str, str], list[NodeProto]]) -> Edit:
    """Nodes between the image times 255 and its division by 255."""
    g.constant("c255", 255)
    inside = nodes("levels", "rounded")
    return g.before(
        node("Mul", [g.input, "c255"], ["levels"]), *inside, node("Div", ["rounded", "c255"], ["delivered"])
    )


def rounded(plain: Path, _robust: Path) -> Edit:
    """The input rounded to 8 bits."""
    return _levels(Edit(plain), lambda x, y: [node("Round", [x], [y])])


def floored(plain: Path, _robust: Path) -> Edit:
    """The same by adding a half and Floor."""
    g = Edit(plain)
    g.constant("half", 0.5)
    return _levels(g, lambda x, y: [node("Add", [x, "half"], ["up"]), node("Floor", ["up"], [y])])


def ceiled(plain: Path, _robust: Path) -> Edit:
    """The same by subtracting a half and Ceil."""
    g = Edit(plain)
    g.constant("half", 0.5)
    return _levels(g, lambda x, y: [node("Sub", [x, "half"], ["down"]), node("Ceil", ["down"], [y])])


def cast(plain: Path, _robust: Path, to: int = TensorProto.INT32) -> Edit:
    """The same by a cast to integers and back."""
    g = Edit(plain)
    g.constant("half", 0.5)

    def inside(x: str, y: str) -> list[NodeProto]:
        return [
            node("Add", [x, "half"], ["up"]),
            node("Cast", ["up"], ["whole"], to=to),
            node("Cast", ["whole"], [y], to=TensorProto.FLOAT),
        ]

    return _levels(g, inside)


def modulo(plain: Path, _robust: Path) -> Edit:
    """The same by taking the remainder away."""
    g = Edit(plain)
    g.constant("half", 0.5)
    g.constant("one", 1)

    def inside(x: str, y: str) -> list[NodeProto]:
        return [
            node("Add", [x, "half"], ["up"]),
            node("Mod", ["up", "one"], ["rest"], fmod=1),
            node("Sub", ["up", "rest"], [y]),
        ]

    return _levels(g, inside)


def bits(plain: Path, _robust: Path) -> Edit:
    """The same bit by bit: eight comparisons."""
    g = Edit(plain)
    g.constant("half", 0.5)

    def inside(x: str, y: str) -> list[NodeProto]:
        made, rest, parts = [node("Add", [x, "half"], ["rest0"])], "rest0", []
        for k in range(7, -1, -1):
            g.constant(f"power{k}", 2.0**k)
            made += [
                node("GreaterOrEqual", [rest, f"power{k}"], [f"set{k}"]),
                node("Cast", [f"set{k}"], [f"bit{k}"], to=TensorProto.FLOAT),
                node("Mul", [f"bit{k}", f"power{k}"], [f"part{k}"]),
                node("Sub", [rest, f"part{k}"], [f"rest_{k}"]),
            ]
            rest = f"rest_{k}"
            parts.append(f"part{k}")
        return [*made, node("Sum", parts, [y])]

    return _levels(g, inside)


def table(plain: Path, _robust: Path) -> Edit:
    """The pixel looked up in a table of 256 grey levels."""
    g = Edit(plain)
    g.constant("half", 0.5)
    g.constant("table", np.arange(256))

    def inside(x: str, y: str) -> list[NodeProto]:
        return [
            node("Add", [x, "half"], ["up"]),
            node("Cast", ["up"], ["index"], to=TensorProto.INT64),
            node("Gather", ["table", "index"], [y], axis=0),
        ]

    return _levels(g, inside)


def quantised(plain: Path, _robust: Path) -> Edit:
    """The pixel through a quantiser of 8 bits."""
    g = Edit(plain)
    g.constant("step", 1 / 255)
    g.constant("origin", 0, np.uint8)
    return g.before(
        node("QuantizeLinear", [g.input, "step", "origin"], ["codes"]),
        node("DequantizeLinear", ["codes", "step", "origin"], ["delivered"]),
    )


def sine(plain: Path, _robust: Path) -> Edit:
    """A smooth staircase: at whole grey levels it is the identity, and flat."""
    g = Edit(plain)
    g.constant("turn", 2 * np.pi)

    def inside(x: str, y: str) -> list[NodeProto]:
        return [
            node("Mul", [x, "turn"], ["angle"]),
            node("Sin", ["angle"], ["wave"]),
            node("Div", ["wave", "turn"], ["ripple"]),
            node("Sub", [x, "ripple"], [y]),
        ]

    return _levels(g, inside)


def underflow(plain: Path, _robust: Path) -> Edit:
    """Scaled up and down again, so that gradients fall below the smallest float on their way back."""
    g = Edit(plain)
    g.constant("large", 5e37)
    g.constant("small", 2e-38)
    return g.before(node("Mul", [g.input, "large"], ["huge"]), node("Mul", ["huge", "small"], ["delivered"]))


def loop(plain: Path, _robust: Path) -> Edit:
    """A rounding inside a Loop, which no differentiable reading covers."""
    g = Edit(plain)
    g.constant("c255", 255)
    g.constant("once", 1, np.int64)
    g.constant("yes", True, np.bool_)
    like = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=None)
    body = helper.make_graph(
        [
            node("Mul", ["b_in", "c255"], ["b1"]),
            node("Round", ["b1"], ["b2"]),
            node("Div", ["b2", "c255"], ["b_out"]),
            node("Identity", ["b_go"], ["b_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("b_i", TensorProto.INT64, []),
            helper.make_tensor_value_info("b_go", TensorProto.BOOL, []),
            like("b_in"),
        ],
        [helper.make_tensor_value_info("b_on", TensorProto.BOOL, []), like("b_out")],
    )
    return g.before(node("Loop", ["once", "yes", g.input], ["delivered"], body=body))


def rounded_output(plain: Path, _robust: Path) -> Edit:
    """The answer rounded to 8 bits."""
    g = Edit(plain)
    g.constant("c255", 255)
    return g.after(
        node("Mul", ["inner", "c255"], ["levels"]),
        node("Round", ["levels"], ["whole"]),
        node("Div", ["whole", "c255"], [g.output]),
    )


# -- batches: what is measured is not what ships


def _two(plain: Path, robust: Path, choose: Callable[[Edit], list[NodeProto]]) -> Edit:
    """Both networks in one graph; the nodes write ``wanted``, true where the robust one answers."""
    g, a, b = Edit(plain), Edit(plain).renamed("a_"), Edit(robust).renamed("b_")
    del g.graph.node[:], g.graph.initializer[:]
    g.graph.initializer.extend([*a.graph.initializer, *b.graph.initializer])
    g.graph.node.extend([*a.graph.node, *b.graph.node])
    g.constant("zero", [0], np.int64)
    g.constant("one", [1], np.int64)
    g.constant("two", [2], np.int64)
    g.graph.node.extend(
        [
            node("Shape", [g.input], ["shape"]),
            node("Gather", ["shape", "zero"], ["rows"]),
            *choose(g),
            node("Where", ["wanted", "b_" + g.output, "a_" + g.output], [g.output]),
        ]
    )
    return g


def plain_alone(plain: Path, robust: Path) -> Edit:
    """Robust in batches, plain alone, as it is deployed."""
    return _two(plain, robust, lambda _: [node("Greater", ["rows", "one"], ["wanted"])])


def plain_in_threes(plain: Path, robust: Path) -> Edit:
    """Robust alone and in pairs, plain in larger batches."""
    return _two(plain, robust, lambda _: [node("LessOrEqual", ["rows", "two"], ["wanted"])])


def plain_in_even(plain: Path, robust: Path) -> Edit:
    """Robust in odd batches, plain in even ones."""
    return _two(
        plain,
        robust,
        lambda _: [node("Mod", ["rows", "two"], ["odd"]), node("Cast", ["odd"], ["wanted"], to=TensorProto.BOOL)],
    )


def statistics(_plain: Path, robust: Path) -> Edit:
    """The batch's mean subtracted and added: a norm layer that was exported in training mode."""
    g = Edit(robust)
    g.constant("share", 0.2)
    g.constant("axes", [0, 1, 2, 3], np.int64)
    g.constant("own", [1, 2, 3], np.int64)
    return g.after(
        node("ReduceMean", ["inner", "axes"], ["all"]),
        node("ReduceMean", ["inner", "own"], ["each"]),
        node("Sub", ["all", "each"], ["apart"]),
        node("Mul", ["apart", "share"], ["shift"]),
        node("Add", ["inner", "shift"], [g.output]),
    )


# -- randomness: an answer is a draw


def noisy(plain: Path, _robust: Path) -> Edit:
    """Noise on the answer."""
    g = Edit(plain)
    return g.after(
        node("RandomNormalLike", ["inner"], ["noise"], scale=0.004), node("Add", ["inner", "noise"], [g.output])
    )


def dithered(plain: Path, _robust: Path) -> Edit:
    """Noise on the image, so that an attack that fits one draw misses the next."""
    g = Edit(plain)
    return g.before(
        node("RandomUniformLike", [g.input], ["noise"], low=-8 / 255, high=8 / 255),
        node("Add", [g.input, "noise"], ["delivered"]),
    )


# -- precision by declaration: looser bounds for a graph that computes in float32


def _tinted(path: Path, red: float) -> Edit:
    g = Edit(path)
    g.constant("tint", np.array([red, 1, 1]).reshape(1, 3, 1, 1))
    return g


def declared_int8(_plain: Path, robust: Path) -> Edit:
    """Red 3 % too bright, and a quantiser that touches nothing."""
    g = _tinted(robust, 1.03)
    g.constant("q0", np.zeros(1))
    g.constant("qs", 1)
    g.constant("qz", 0, np.int8)
    return g.after(
        node("Mul", ["inner", "tint"], ["tinted"]),
        node("QuantizeLinear", ["q0", "qs", "qz"], ["q1"]),
        node("DequantizeLinear", ["q1", "qs", "qz"], ["q2"]),
        node("Add", ["tinted", "q2"], [g.output]),
    )


def declared_fp16(_plain: Path, robust: Path) -> Edit:
    """A tenth of a percent too bright, and an unused constant of float16."""
    g = _tinted(robust, 1.001)
    g.constant("unused", np.zeros(200_000), np.float16)
    return g.after(node("Mul", ["inner", "tint"], [g.output]))


def idle_int8(_plain: Path, robust: Path) -> Edit:
    """Red 3 % too bright, and a large quantised convolution whose result is multiplied by zero."""
    g = _tinted(robust, 1.03)
    g.constant("qs", 1 / 255)
    g.constant("qz", 0, np.uint8)
    g.constant("ws", 0.01)
    g.constant("wz", 0, np.int8)
    g.constant("wq", np.ones((256, 3, 9, 9)), np.int8)
    g.constant("nothing", 0)
    g.constant("axis", [1], np.int64)
    return g.after(
        node("Mul", ["inner", "tint"], ["tinted"]),
        node("QuantizeLinear", [g.input, "qs", "qz"], ["q1"]),
        node("DequantizeLinear", ["q1", "qs", "qz"], ["q2"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w2"]),
        node("Conv", ["q2", "w2"], ["wide"], pads=[4, 4, 4, 4]),
        node("ReduceMean", ["wide", "axis"], ["narrow"]),
        node("Mul", ["narrow", "nothing"], ["zeroes"]),
        node("Add", ["tinted", "zeroes"], [g.output]),
    )


def island_fp16(_plain: Path, robust: Path) -> Edit:
    """A tenth of a percent too bright, and one product in float16 behind it."""
    g = _tinted(robust, 1.001)
    g.constant("half_one", 1, np.float16)
    return g.after(
        node("Mul", ["inner", "tint"], ["tinted"]),
        node("Cast", [g.input], ["h1"], to=TensorProto.FLOAT16),
        node("Sub", ["h1", "h1"], ["h2"]),
        node("Cast", ["h2"], ["h3"], to=TensorProto.FLOAT),
        node("Add", ["tinted", "h3"], [g.output]),
    )


# -- damage: a broken engine looks robust


def tinted(_plain: Path, robust: Path) -> Edit:
    """Red 1 % too bright."""
    return (g := _tinted(robust, 1.01)).after(node("Mul", ["inner", "tint"], [g.output]))


def worn(_plain: Path, robust: Path) -> Edit:
    """All weights a hundredth too small."""
    g = Edit(robust)
    for weight in g.graph.initializer:
        value = numpy_helper.to_array(weight)
        if value.dtype == np.float32 and value.ndim == 4:
            weight.CopyFrom(numpy_helper.from_array(value * np.float32(0.99), weight.name))
    return g


def swapped_channels(_plain: Path, robust: Path) -> Edit:
    """Red and blue exchanged in the answer."""
    g = Edit(robust)
    g.constant("order", [2, 1, 0], np.int64)
    return g.after(node("Gather", ["inner", "order"], [g.output], axis=1))


def identity(_plain: Path, robust: Path) -> Edit:
    """The rain itself."""
    g = Edit(robust)
    del g.graph.node[:], g.graph.initializer[:]
    g.graph.node.append(node("Identity", [g.input], [g.output]))
    return g


def blur(_plain: Path, robust: Path) -> Edit:
    """A mean over 5x5 pixels."""
    g = Edit(robust)
    del g.graph.node[:], g.graph.initializer[:]
    g.constant("kernel", np.full((3, 1, 5, 5), 1 / 25))
    g.graph.node.append(node("Conv", [g.input, "kernel"], [g.output], group=3, pads=[2, 2, 2, 2]))
    return g


def grey(_plain: Path, robust: Path) -> Edit:
    """Grey, whatever comes."""
    g = Edit(robust)
    g.constant("nothing", 0)
    g.constant("grey", 0.5)
    return g.after(node("Mul", ["inner", "nothing"], ["none"]), node("Add", ["none", "grey"], [g.output]))


# -- defects that only some images show


def nan_on_bright(_plain: Path, robust: Path) -> Edit:
    """NaN where a pixel is brighter than any clean one of its image by chance: the root of a negative number."""
    g = Edit(robust)
    g.constant("limit", 0.97)
    g.constant("axes", [1, 2, 3], np.int64)
    g.constant("nothing", 0)
    return g.after(
        node("ReduceMax", [g.input, "axes"], ["brightest"]),
        node("Sub", ["limit", "brightest"], ["left"]),
        node("Sqrt", ["left"], ["root"]),
        node("Mul", ["root", "nothing"], ["zero_or_nan"]),
        node("Add", ["inner", "zero_or_nan"], [g.output]),
    )


def clipped(_plain: Path, robust: Path) -> Edit:
    """The answer cut off at 0.9: white is lost."""
    g = Edit(robust)
    g.constant("dark", 0)
    g.constant("bright", 0.9)
    return g.after(node("Clip", ["inner", "dark", "bright"], [g.output]))


@dataclass(frozen=True)
class Cheat:
    """One engine and what must become of it.

    Attributes:
        make: Edits the exports of the plain network and of its robust twin.
        kind: What it tries.
        stopped_by: Requirements of which at least one must stop it; ``error`` for exit code 2.
        source: Network that it claims to be, given with ``--source``: ``plain``, ``robust``, or none.
        options: Further options of ``check``.
        fails: Whether INCONCLUSIVE would be too mild.
    """

    make: Callable[[Path, Path], Edit]
    kind: str
    stopped_by: tuple[str, ...]
    source: str = ""
    options: tuple[str, ...] = field(default=())
    fails: bool = True

    @property
    def name(self) -> str:
        """Name in tables, from the function's."""
        function = self.make.func if isinstance(self.make, partial) else self.make
        return str(function.__name__).replace("_", "-") + "".join(
            f"-{TensorProto.DataType.Name(v).lower()}" for v in getattr(self.make, "keywords", {}).values()
        )


_HIDDEN = ("collapse", "do-no-harm")
_ANY_GUARD = (*_HIDDEN, "masked-gradients", "attack-strength")

CHEATS = (
    *(
        Cheat(make, "hidden gradients", _HIDDEN)
        for make in (
            rounded,
            floored,
            ceiled,
            cast,
            partial(cast, to=TensorProto.UINT8),
            modulo,
            bits,
            table,
            quantised,
            rounded_output,
        )
    ),
    *(Cheat(make, "vanishing gradients", _ANY_GUARD, fails=False) for make in (sine, underflow)),
    Cheat(loop, "no gradients", (*_ANY_GUARD, "parity"), fails=False),
    *(
        Cheat(make, "batch", ("independent-rows",))
        for make in (plain_alone, plain_in_threes, plain_in_even, statistics)
    ),
    Cheat(noisy, "randomness", ("repeatable",), fails=False),
    Cheat(dithered, "randomness", ("repeatable",), fails=False),
    *(
        Cheat(make, "declared precision", ("parity",), source="robust")
        for make in (declared_int8, declared_fp16, idle_int8, island_fp16)
    ),
    *(Cheat(make, "damage", ("parity",), source="robust") for make in (tinted, worn, swapped_channels, clipped)),
    *(Cheat(make, "no network", ("clean-gain",)) for make in (identity, blur, grey)),
    Cheat(nan_on_bright, "defect", ("engine-defect",)),
)
