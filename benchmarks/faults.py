"""Faults that only attacked images reach, planted in an export: graph edits that change nothing on clean images.

Each fault is a way in which a runtime or a converter has gone wrong: a range taken from clean images that saturates, a
type that overflows, a kernel that takes another path. Ranges are measured on the clean images that parity stands on, so
that clean parity is given its best chance to see nothing, and layers are such that PGD at 8/255 reaches beyond them. Of
a fault of the ``runtime`` the file is sound, and the engine computes what the edited graph says; a fault of the file is
in the file's own graph, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import NodeProto

MARGIN = 1.05
"""Headroom over what clean images reach."""

_LARGEST_HALF = 65504.0

Nodes = list["NodeProto"]


class Ranges:
    """What values of a sound graph are on clean images."""

    def __init__(self, path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
        """Keeps the graph and the images, (H, W, 3) uint8 of one size."""
        self._path, self._random = path, cast("Ranges | None", None)
        self._model = onnx.load(str(path))
        self._input = self._model.graph.input[0].name
        self._images = [image.transpose(2, 0, 1)[None].astype(np.float32) / 255 for image in images]
        self._known: dict[str, NDArray[np.float32]] = {}

    def of(self, value: str) -> NDArray[np.float32]:
        """A value of the graph on all clean images, (N, ...)."""
        import onnxruntime

        if value not in self._known:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            model.graph.output.append(helper.make_empty_tensor_value_info(value))
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            rows = [session.run([value], {self._input: image})[0] for image in self._images]
            self._known[value] = np.concatenate(rows)
        return self._known[value]

    def random(self) -> Ranges:
        """What they are on 64 images of uniform noise."""
        if self._random is None:
            draw = np.random.default_rng(0)
            shape = self._images[0].shape[2:]
            self._random = Ranges(self._path, [draw.integers(0, 256, (*shape, 3), np.uint8) for _ in range(64)])
        return self._random

    def largest(self, value: str) -> float:
        """Its largest magnitude."""
        return float(np.abs(self.of(value)).max())


class Graph:
    """A graph in which values can be replaced by others made from them."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges) -> None:
        self.model, self.ranges = model, ranges
        self._made = 0

    @classmethod
    def read(cls, path: Path, ranges: Ranges) -> Graph:
        """A copy of the sound graph."""
        return cls(onnx.load(str(path)), ranges)

    def write(self, path: Path) -> None:
        """Checks and writes it."""
        onnx.checker.check_model(self.model)
        onnx.save(self.model, str(path))

    def outputs(self, op_type: str) -> list[str]:
        """Values that operators of a kind write, in order."""
        return [node.output[0] for node in self.model.graph.node if node.op_type == op_type]

    def inputs(self, op_type: str) -> list[str]:
        """Values that they read first."""
        return [node.input[0] for node in self.model.graph.node if node.op_type == op_type]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant; its name."""
        name = self.name("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def name(self, stem: str) -> str:
        """A name that is not there yet."""
        self._made += 1
        return f"planted_{stem}_{self._made}"

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> tuple[str, NodeProto]:
        """An operator with one output; the name of that, and the node."""
        name = self.name(op_type)
        return name, helper.make_node(op_type, list(inputs), [name], name=name, **attributes)

    def replace(self, value: str, make: Callable[[str], tuple[str, Nodes]], only: str | None = None) -> None:
        """Puts what is made from a value in its place.

        Args:
            value: The value.
            make: From its name, the new value's name and the nodes that make it.
            only: Operators that are to read the new one; None for all.
        """
        new, nodes = make(value)
        graph = self.model.graph
        at = next(i for i, node in enumerate(graph.node) if value in node.output) + 1
        for node in graph.node:
            if only is None or node.op_type == only:
                node.input[:] = [new if name == value else name for name in node.input]
        for output in graph.output:
            if output.name == value:
                raise ValueError(f"{value} is the answer itself")
        for offset, node in enumerate(nodes):
            graph.node.insert(at + offset, node)


def clip(graph: Graph, value: str, low: Any, high: Any) -> tuple[str, Nodes]:
    """The value cut to a range, by Max and Min so that the limits may have a shape."""
    cut, first = graph.node("Min", value, graph.constant(high))
    out, second = graph.node("Max", cut, graph.constant(low))
    return out, [first, second]


# -- what goes wrong


def clipped_activations(graph: Graph) -> None:
    for value in graph.outputs("Relu"):
        high = MARGIN * graph.ranges.largest(value)
        graph.replace(value, lambda name, high=high: clip(graph, name, 0.0, high))  # type: ignore[misc]


def clipped_channel(graph: Graph) -> None:
    (value,) = graph.outputs("Relu")[-1:]
    high = MARGIN * graph.ranges.of(value).max((0, 2, 3), keepdims=True)
    graph.replace(value, lambda name: clip(graph, name, 0.0, high))


def calibrated_channels(graph: Graph) -> None:
    """Channels clipped at what clean images and random inputs reach, as a calibration on both would have it."""
    for value in graph.outputs("Relu"):
        seen, random = (
            ranges.of(value).max((0, 2, 3), keepdims=True) for ranges in (graph.ranges, graph.ranges.random())
        )
        high = MARGIN * np.maximum(seen, random)
        graph.replace(value, lambda name, high=high: clip(graph, name, 0.0, high))  # type: ignore[misc]


def half_overflow(graph: Graph) -> None:
    """One block in float16, scaled so that clean images reach 95 % of its largest number; beyond, that number stays."""
    value = graph.outputs("Add")[16]
    scale = _LARGEST_HALF / (MARGIN * graph.ranges.largest(value))

    def make(name: str) -> tuple[str, Nodes]:
        big, first = graph.node("Mul", name, graph.constant(scale))
        cut, cuts = clip(graph, big, -_LARGEST_HALF, _LARGEST_HALF)
        half, second = graph.node("Cast", cut, to=TensorProto.FLOAT16)
        back, third = graph.node("Cast", half, to=TensorProto.FLOAT)
        out, last = graph.node("Mul", back, graph.constant(1 / scale))
        return out, [first, *cuts, second, third, last]

    graph.replace(value, make)


def saturating_sum(graph: Graph) -> None:
    """Residual sums in fixed point of 16 bits that hold what clean images reach."""
    for value in graph.outputs("Add")[14:19]:
        step = MARGIN * graph.ranges.largest(value) / 32767

        def make(name: str, step: float = step) -> tuple[str, Nodes]:
            codes, first = graph.node("Mul", name, graph.constant(1 / step))
            rounded, second = graph.node("Round", codes)
            cut, cuts = clip(graph, rounded, -32768.0, 32767.0)
            out, last = graph.node("Mul", cut, graph.constant(step))
            return out, [first, second, *cuts, last]

        graph.replace(value, make)


def saturating_int8_sum(graph: Graph) -> None:
    """A residual sum in int8 where values leave the range of clean images, in floating point inside it."""
    value = graph.outputs("Add")[17]
    high = MARGIN * graph.ranges.largest(value)

    def make(name: str) -> tuple[str, Nodes]:
        size, a = graph.node("Abs", name)
        over, b = graph.node("Greater", size, graph.constant(high))
        sign, c = graph.node("Sign", name)
        limit, d = graph.node("Mul", sign, graph.constant(high * 127 / 128))
        out, e = graph.node("Where", over, limit, name)
        return out, [a, b, c, d, e]

    graph.replace(value, make)


def truncating_kernel(graph: Graph) -> None:
    """A fused block that keeps 13 bits of the fraction and truncates, where the others round."""
    value = graph.outputs("Add")[16]
    step = 2.0 ** (np.ceil(np.log2(graph.ranges.largest(value))) - 13)

    def make(name: str) -> tuple[str, Nodes]:
        codes, first = graph.node("Mul", name, graph.constant(1 / step))
        cut, second = graph.node("Floor", codes)
        out, last = graph.node("Mul", cut, graph.constant(step))
        return out, [first, second, last]

    graph.replace(value, make)


def padding_row(graph: Graph) -> None:
    """The last row of a feature map is kept in a halo buffer whose range is that of clean images."""
    for value in graph.outputs("Relu")[33:48]:
        row = graph.ranges.of(value)[:, :, -1:, :]
        high = np.full((1, 1, graph.ranges.of(value).shape[2], 1), 1e30, np.float32)
        high[:, :, -1:] = MARGIN * max(float(row.max()), 1e-3)
        graph.replace(value, lambda name, high=high: clip(graph, name, 0.0, high))  # type: ignore[misc]


def sigmoid_table(graph: Graph) -> None:
    """Sigmoids from a table of the clean range: an index beyond its end wraps around to its beginning."""
    for value in graph.inputs("Sigmoid"):
        seen = graph.ranges.of(value)
        low, high = MARGIN * float(seen.min()), MARGIN * float(seen.max())

        def make(name: str, low: float = low, high: float = high) -> tuple[str, Nodes]:
            over, a = graph.node("Greater", name, graph.constant(high))
            out, b = graph.node("Where", over, graph.constant(low), name)
            return out, [a, b]

        graph.replace(value, make, only="Sigmoid")


def flushed_norm(graph: Graph) -> None:
    """A normalisation whose mean square overflows above that of clean images; the largest one scales then."""
    value = graph.outputs("Relu")[47]
    seen = graph.ranges.of(value)
    high = MARGIN**2 * float(np.square(seen).mean((1, 2, 3)).max())

    def make(name: str) -> tuple[str, Nodes]:
        square, a = graph.node("Mul", name, name)
        axes = graph.constant([1, 2, 3], np.int64)
        mean, b = graph.node("ReduceMean", square, axes, keepdims=1)
        kept, c = graph.node("Min", mean, graph.constant(high))
        above, d = graph.node("Max", mean, graph.constant(1e-12))
        below, e = graph.node("Max", kept, graph.constant(1e-12))
        share, f = graph.node("Div", below, above)
        root, g = graph.node("Sqrt", share)
        out, h = graph.node("Mul", name, root)
        return out, [a, b, c, d, e, f, g, h]

    graph.replace(value, make)


def narrow_accumulator(graph: Graph) -> None:
    """The sums of one convolution in an accumulator that wraps around beyond the range of clean images."""
    value = graph.outputs("Conv")[37]
    half = MARGIN * graph.ranges.largest(value)

    def make(name: str) -> tuple[str, Nodes]:
        size, a = graph.node("Abs", name)
        over, b = graph.node("Greater", size, graph.constant(half))
        sign, c = graph.node("Sign", name)
        turn, d = graph.node("Mul", sign, graph.constant(2 * half))
        wrapped, e = graph.node("Sub", name, turn)
        out, f = graph.node("Where", over, wrapped, name)
        return out, [a, b, c, d, e, f]

    graph.replace(value, make)


def fast_path(graph: Graph) -> None:
    """Exact for images whose values stay in the range of clean ones, float16 for the others."""
    value = graph.outputs("Relu")[43]
    high = MARGIN * graph.ranges.largest(value)

    def make(name: str) -> tuple[str, Nodes]:
        axes = graph.constant([1, 2, 3], np.int64)
        most, a = graph.node("ReduceMax", name, axes, keepdims=1)
        small, b = graph.node("Less", most, graph.constant(high))
        half, c = graph.node("Cast", name, to=TensorProto.FLOAT16)
        back, d = graph.node("Cast", half, to=TensorProto.FLOAT)
        out, e = graph.node("Where", small, name, back)
        return out, [a, b, c, d, e]

    graph.replace(value, make)


def nan_to_zero(graph: Graph) -> None:
    """A tanh by exponentials that overflow beyond the range of clean images; what is then no number becomes zero."""
    for value in graph.inputs("Tanh"):
        high = MARGIN * graph.ranges.largest(value)

        def make(name: str, high: float = high) -> tuple[str, Nodes]:
            size, a = graph.node("Abs", name)
            over, b = graph.node("Greater", size, graph.constant(high))
            out, c = graph.node("Where", over, graph.constant(0.0), name)
            return out, [a, b, c]

        graph.replace(value, make, only="Tanh")


@dataclass(frozen=True, slots=True)
class Fault:
    """A planted fault.

    Attributes:
        name: One word.
        what: In words.
        runtime: Whether the file is sound and the runtime is not.
        plant: Edits a sound fp32 graph.
    """

    name: str
    what: str
    runtime: bool
    plant: Callable[[Graph], None]


FAULTS = (
    Fault("clipped-activations", "activations clipped at 1.05 times the clean maximum", False, clipped_activations),
    Fault(
        "clipped-channel",
        "one layer clipped at 1.05 times each channel's clean maximum",
        False,
        clipped_channel,
    ),
    Fault(
        "calibrated-channels",
        "channels clipped at 1.05 times what clean images and random inputs reach",
        False,
        calibrated_channels,
    ),
    Fault("half-overflow", "one float16 block that saturates above the clean range", False, half_overflow),
    Fault("saturating-sum", "residual sums in 16-bit fixed point that saturate", True, saturating_sum),
    Fault("saturating-int8-sum", "a residual sum that falls into int8 and saturates", True, saturating_int8_sum),
    Fault("truncating-kernel", "a fused block that truncates where the graph rounds", True, truncating_kernel),
    Fault("padding-row", "the last row kept in a halo buffer of the clean range", True, padding_row),
    Fault(
        "sigmoid-table", "sigmoids from a table whose index wraps around beyond the clean range", True, sigmoid_table
    ),
    Fault("flushed-norm", "a normalisation whose mean square overflows", False, flushed_norm),
    Fault("narrow-accumulator", "an accumulator that wraps around", True, narrow_accumulator),
    Fault("fast-path", "float16 once a value leaves the clean range", False, fast_path),
    Fault("nan-to-zero", "a tanh that overflows, with NaN turned to zero", True, nan_to_zero),
)
