"""The values of an ONNX graph: types and sizes, what depends on the image, and what reaches the output."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

NOMINAL_SIDE = 256
"""Height and width, in pixels, at which work is counted where a graph fixes none."""

NEGLIGIBLE = 1e-6
"""A summand that never exceeds this is not seen: a pixel of an image in [0, 1] has steps of 4e-3."""

_IMAGE_BOUND = 65535.0
_SMALL = 4096
"""Constants of more elements than this are not computed with."""

_CODE_SPANS = {17: 448.0, 18: 240.0, 19: 57344.0, 20: 57344.0, 4: 65535.0, 5: 65535.0}
_MOVERS = (
    *("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Expand", "Tile"),
    *("Gather", "GatherElements", "GatherND", "Concat", "Pad", "DepthToSpace", "SpaceToDepth", "Cast", "CastLike"),
)
"""Operators that hand values on."""

_NO_GREATER = (
    *_MOVERS,
    "Relu",
    "Abs",
    "Neg",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Dropout",
)
"""Operators whose outputs are nowhere larger than their inputs."""

_AT_MOST_ONE = ("Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Sin", "Cos", "Erf", "Sign", "Softsign")
_ADDERS = ("Add", "Sub", "Sum", "Mean")
_FACTORS = ("Mul", "Conv", "ConvTranspose", "MatMul", "Gemm", "FusedConv", "FusedMatMul", "FusedGemm", "Einsum")
_FORGET = ("Shape", "Size", "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike")
"""Operators whose output holds nothing of the values that they are given."""

_ON_SIZES = (
    *("Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity", "Add", "Sub", "Mul", "Div"),
    *("Mod", "Neg", "Floor", "Ceil", "Min", "Max", "Range", "Where", "Equal", "Less", "Greater", "Expand"),
)
"""Operators that exporters compute sizes with."""

_ALSO_KNOWN_AS = {"FusedConv": "Conv", "FusedMatMul": "MatMul", "TransposeMatMul": "MatMul", "FusedGemm": "Gemm"}
"""Operators of runtimes, for ONNX's inference of sizes, which does not know them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator, those inside If, Loop and Scan in the order of their surroundings.

    Attributes:
        op: Its type, whatever its domain.
        inputs: Names of values; empty where an optional one is left out.
        outputs: Likewise.
        node: The operator itself; None for a hand-over between a subgraph and its surroundings.
        times: How often it runs.
        branch: Number of the innermost If whose condition is not known, and 0 or 1 for then and else; else empty.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    node: onnx.NodeProto | None = None
    times: int = 1
    branch: tuple[int, ...] = ()

    def at(self, index: int) -> str:
        """Name of an input; empty where it is not given."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def attribute(self, name: str) -> int:
        """An integer attribute; 0 where it is not given."""
        return next((int(a.i) for a in (() if self.node is None else self.node.attribute) if a.name == name), 0)

    def text(self, name: str) -> str:
        """A text attribute; empty where it is not given."""
        attributes = () if self.node is None else self.node.attribute
        return next((a.s.decode(errors="replace") for a in attributes if a.name == name), "")

    @property
    def moves(self) -> bool:
        """Whether it only hands values on."""
        return self.op in _MOVERS


@dataclass(slots=True)
class Values:
    """What is known of the values of a graph by name.

    Attributes:
        steps: In an order in which they can run.
        outputs: Names of the graph's outputs.
    """

    steps: list[Step] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    _kinds: dict[str, int] = field(default_factory=dict)
    _shapes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    _stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _known: dict[str, NDArray[Any] | None] = field(default_factory=dict)
    _bounds: dict[str, float] = field(default_factory=dict)
    _dependent: set[str] = field(default_factory=set)
    _makers: dict[str, list[Step]] = field(default_factory=dict)
    _unseen: set[tuple[int, int]] = field(default_factory=set)
    _folder: Path | None = None
    _branches: int = 0

    @classmethod
    def of(cls, model: onnx.ModelProto, folder: Path | None = None) -> Values:
        """Everything that can be known without running the graph.

        Args:
            model: The graph.
            folder: Where its external data lies.
        """
        made = cls(outputs=tuple(value.name for value in model.graph.output), _folder=folder)
        sized = _inferred(model)
        made._learn(sized.graph)
        made._learn_sizes(sized)
        weights = {tensor.name for tensor in sized.graph.initializer}
        for value in sized.graph.input:
            if value.name not in weights:
                made._dependent.add(value.name)
                made._bounds[value.name] = _IMAGE_BOUND
        made._walk(sized.graph, {}, 1, ())
        return made

    def kind(self, name: str) -> int:
        """Element type by ONNX's number; 0 where it is not known."""
        return self._kinds.get(name, 0)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Sizes; None where one is not known."""
        return self._shapes.get(name)

    def depends(self, name: str) -> bool:
        """Whether the values change with the image."""
        return name in self._dependent

    def codes(self, name: str) -> int | None:
        """Element type of the codes that these values stand for; None where they are no dequantised codes.

        Codes that were handed on stay codes, and so do those behind a Relu, which runtimes fuse.
        """
        for _ in range(len(self.steps)):
            makers = self._makers.get(name, [])
            if len(makers) != 1:
                return None
            (maker,) = makers
            if maker.op == "DequantizeLinear":
                return self._code_type(maker)
            if not (maker.moves or maker.op in ("Relu", "MaxPool")) or maker.op == "Concat":
                return None
            name = maker.at(0)
        return None

    def choices(self) -> Iterator[Step]:
        """Each Where on the way whose condition nobody knows: it may never take one of its sides."""
        return (step for step in self.live() if step.op == "Where" and not self._fixed_choice(step))

    def live(self, never: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Step]:
        """The steps on the way from the image to the output, in order.

        Args:
            never: Inputs that are taken to be never read: the ``id`` of a step, and which of its inputs.
        """
        reached, waiting = set(self.outputs), list(self.outputs)
        makers = self._makers
        seen: set[int] = set()
        while waiting:
            for step in makers.get(waiting.pop(), ()):
                if id(step) in seen or not any(name in self._dependent for name in step.outputs):
                    continue
                seen.add(id(step))
                for index, name in enumerate(step.inputs):
                    at = id(step), index
                    if name in self._dependent and at not in self._unseen | never and name not in reached:
                        reached.add(name)
                        waiting.append(name)
        return (step for step in self.steps if id(step) in seen)

    def _code_type(self, step: Step) -> int:
        codes = self.kind(step.at(0)) or self.kind(step.at(2))
        return codes if codes in (2, 3, 4, 5) or codes >= 17 else 0

    # Building: one pass in the order of the graph.

    def _learn(self, graph: onnx.GraphProto) -> None:
        """Types and sizes of everything that inference has named."""
        for value in (*graph.input, *graph.output, *graph.value_info):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                self._kinds[value.name] = tensor.elem_type
            if tensor.HasField("shape"):
                dims = tensor.shape.dim
                known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
                self._shapes[value.name] = tuple(dim.dim_value for dim in dims) if known else None
        for tensor in graph.initializer:
            self._store(tensor.name, tensor)
        for sparse in graph.sparse_initializer:
            self._kinds[sparse.values.name] = sparse.values.data_type
            self._shapes[sparse.values.name] = tuple(sparse.dims)

    def _learn_sizes(self, model: onnx.ModelProto) -> None:
        """Sizes that are computed from the image's, which ONNX's inference follows through few operators.

        They serve for counting alone: a condition on a size stays unknown.
        """
        from onnx import numpy_helper, shape_inference

        if all(self._shapes.get(name) is not None for node in model.graph.node for name in node.output if name):
            return
        work = _without_weights(model)
        for _ in range(_ROUNDS):
            known = {}
            for tensor in work.graph.initializer:
                if math.prod(tensor.dims) <= _SMALL and (array := self._read(tensor)) is not None:
                    known[tensor.name] = array
            before = len(known)
            for node in work.graph.node:
                if not node.output:
                    continue
                if node.op_type == "Shape" and node.input:
                    if (shape := self._shapes.get(node.input[0])) is not None:
                        ends = {a.name: a.i for a in node.attribute}
                        known[node.output[0]] = np.array(shape[ends.get("start", 0) : ends.get("end")], np.int64)
                elif node.op_type in ("Constant", *_ON_SIZES) and all(name in known for name in node.input if name):
                    known.update(_computed(node, [known[name] for name in node.input if name]))
            if len(known) == before:
                return
            kept = [node for node in work.graph.node if not node.output or not known.keys() >= set(node.output)]
            made = [name for node in work.graph.node for name in node.output if name in known]
            del work.graph.node[:]
            work.graph.node.extend(kept)
            del work.graph.value_info[:]
            try:
                work.graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in made)
                work = shape_inference.infer_shapes(work, data_prop=True)
            except Exception:  # as in `_inferred`: what is not known then is counted by weights
                return
            for value in work.graph.value_info:
                dims = value.type.tensor_type.shape.dim
                if self._shapes.get(value.name) is None and value.type.tensor_type.HasField("shape"):
                    known_size = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
                    self._shapes[value.name] = tuple(dim.dim_value for dim in dims) if known_size else None
                if value.name not in self._kinds and value.type.tensor_type.elem_type:
                    self._kinds[value.name] = value.type.tensor_type.elem_type

    def _store(self, name: str, tensor: onnx.TensorProto) -> None:
        self._kinds[name], self._shapes[name] = tensor.data_type, tuple(tensor.dims)
        self._stored[name] = tensor

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        for name in step.outputs:
            if name:
                self._makers.setdefault(name, []).append(step)

    def _walk(self, graph: onnx.GraphProto, names: dict[str, str], times: int, branch: tuple[int, ...]) -> None:
        for node in graph.node:
            inputs = tuple(names.get(name, name) for name in node.input)
            bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
            if node.op_type == "If" and {"then_branch", "else_branch"} <= bodies.keys():
                self._if(inputs, tuple(node.output), bodies, times, branch)
            elif node.op_type in ("Loop", "Scan") and "body" in bodies:
                self._loop(node, inputs, bodies["body"], times, branch)
            else:
                step = Step(node.op_type, inputs, tuple(node.output), node, times, branch)
                self._add(step)
                self._follow(step)

    def _if(
        self,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        bodies: dict[str, onnx.GraphProto],
        times: int,
        branch: tuple[int, ...],
    ) -> None:
        """Both branches, or the one that a constant condition takes."""
        condition = self._value(inputs[0]) if inputs else None
        known = condition is not None and condition.size == 1
        if not known:
            self._branches += 1
        number = self._branches
        for side, name in enumerate(("then_branch", "else_branch")):
            if known and bool(condition.reshape(-1)[0]) != (side == 0):  # type: ignore[union-attr]
                continue
            body = bodies[name]
            self._learn(body)
            self._walk(body, {}, times, branch if known else (number, side))
            for inner, outer in zip(body.output, outputs, strict=False):
                step = Step("Identity", (inner.name,), (outer,), None, times, branch)
                self._add(step)
                self._follow(step, keep=True)

    def _loop(
        self, node: onnx.NodeProto, inputs: tuple[str, ...], body: onnx.GraphProto, times: int, branch: tuple[int, ...]
    ) -> None:
        """The body once, its carried values handed in, around and out; it counts as often as a constant says."""
        self._learn(body)
        trips = self._value(inputs[0]) if node.op_type == "Loop" and inputs and inputs[0] else None
        again = max(1, int(trips.reshape(-1)[0])) if trips is not None and trips.size else 1
        offset = 2 if node.op_type == "Loop" else 0
        carried = [value.name for value in body.input][offset:]
        for inner in carried:  # a later pass may bring anything
            self._dependent.add(inner)
            self._bounds[inner] = math.inf
        for outer, inner in zip(inputs[offset:], carried, strict=False):
            self._add(Step("Identity", (outer,), (inner,), None, times, branch))
        self._walk(body, {}, times * again, branch)
        results = [value.name for value in body.output][offset // 2 :]
        for number, inner in enumerate(results):
            if number < len(carried):
                self._add(Step("Identity", (inner,), (carried[number],), None, times, branch))
            if number < len(node.output):
                step = Step("Identity", (inner,), (node.output[number],), None, times, branch)
                self._add(step)
                self._follow(step)

    def _follow(self, step: Step, *, keep: bool = False) -> None:
        """Works out bound and dependence of a step's outputs; `keep` unites them with those of the other branch."""
        if step.op == "Constant" and step.node is not None:
            for attribute in step.node.attribute:
                if attribute.name == "value":
                    self._store(step.outputs[0], attribute.t)
        fixed = self._fixed_choice(step)
        reads = {i for i, name in enumerate(step.inputs) if name in self._dependent and i not in fixed}
        self._unseen.update((id(step), i) for i in fixed)
        try:
            bound = self._bound(step, fixed)
        except (IndexError, ValueError, TypeError, OverflowError):  # an operator with inputs that it cannot have
            bound = math.inf
        if step.op in _ADDERS:
            tiny = {i for i in reads if self._bound_of(step.inputs[i]) <= NEGLIGIBLE}
            self._unseen.update((id(step), i) for i in tiny)
            reads -= tiny
        carries = bool(reads) and bound > 0 and step.op not in _FORGET and not self._nullified(step)
        for name in step.outputs:
            known = self._bounds.get(name, 0.0) if keep else 0.0
            self._bounds[name] = max(bound, known)
            if carries:
                self._dependent.add(name)
        if not carries and step.op not in ("Constant", *_FORGET) and step.node is not None:
            self._fold(step)

    def _nullified(self, step: Step) -> bool:
        """Whether one factor of a product is zero everywhere."""
        return step.op in _FACTORS and any(self._bound_of(name) == 0 for name in step.inputs[:2])

    def _fixed_choice(self, step: Step) -> set[int]:
        """Inputs of a Where that its constant condition never takes."""
        if step.op != "Where":
            return set()
        condition = self._value(step.at(0))
        if condition is None or not condition.size:
            return set()
        return {2} if condition.all() else set() if condition.any() else {1}

    def _bound_of(self, name: str) -> float:
        """The greatest magnitude that a value can have; infinite where nobody knows."""
        if not name:
            return 0.0
        if name not in self._bounds:
            self._bounds[name] = math.inf if name in self._dependent else self._greatest(name)
        return self._bounds[name]

    def _greatest(self, name: str) -> float:
        array = self._value(name, _ANY_SIZE)
        if array is None:
            return math.inf
        try:
            return float(np.abs(array.astype(np.float64)).max()) if array.size else 0.0
        except (TypeError, ValueError):
            return math.inf

    def _bound(self, step: Step, fixed: set[int]) -> float:
        """The greatest magnitude of a step's outputs."""
        of = [self._bound_of(name) for name in step.inputs]
        if step.op == "Constant":
            return self._greatest(step.outputs[0])
        if step.op == "DequantizeLinear":
            return (
                min(_CODE_SPANS.get(self._code_type(step), 255.0), 2 * of[0] + 255) * of[1] if len(of) > 1 else math.inf
            )
        if step.op in _AT_MOST_ONE:
            return 1.0 if step.op != "Tanh" else min(1.0, *of)
        if step.op == "Sub" and step.at(0) == step.at(1):
            return 0.0
        if step.op in _ADDERS:
            return math.fsum(of) if all(map(math.isfinite, of)) else math.inf
        if step.op == "Where":
            return max(value for i, value in enumerate(of) if i and i not in fixed)
        if step.op == "Concat":
            return max(of, default=math.inf)
        if step.op == "Pad":
            return of[0] if step.at(2) == "" or self._bound_of(step.at(2)) == 0 else math.inf
        if step.op in _NO_GREATER:
            return of[0] if of else math.inf
        if step.op == "Clip":
            return min(of[0], max(of[1:])) if len(of) == 3 and all(step.inputs) else of[0]
        if step.op == "Div":
            divisor = self._value(step.at(1), _ANY_SIZE)
            if of[0] == 0:
                return 0.0
            least = float(np.abs(divisor.astype(np.float64)).min()) if divisor is not None and divisor.size else 0.0
            return of[0] / least if least else math.inf
        if step.op in _FACTORS and len(of) > 1:
            return self._product(step, of)
        return math.inf

    def _product(self, step: Step, of: list[float]) -> float:
        added = of[2] if step.op in ("Conv", "ConvTranspose", "Gemm", "FusedConv", "FusedGemm") and len(of) > 2 else 0.0
        if of[0] == 0 or of[1] == 0:
            return added
        terms = 1.0
        if step.op != "Mul":
            shape = self.shape(step.at(1))
            terms = float(math.prod(shape)) if shape else math.inf
        scale = next((abs(a.f) for a in (step.node.attribute if step.node else ()) if a.name == "alpha"), 1.0)
        return of[0] * of[1] * terms * max(scale, 1.0 if step.op == "Gemm" else scale) + added

    def _value(self, name: str, most: int = _SMALL) -> NDArray[Any] | None:
        """A constant as an array; None where it is none, too large, or not readable."""
        if name in self._known:
            return self._known[name]
        tensor = self._stored.get(name)
        if tensor is None or math.prod(tensor.dims) > most:
            return None
        return self._read(tensor)

    def _read(self, tensor: onnx.TensorProto) -> NDArray[Any] | None:
        """A stored constant; None where its bytes are not there, or are not what its type and sizes say."""
        from onnx import TensorProto, external_data_helper, numpy_helper

        try:
            if tensor.data_location == TensorProto.EXTERNAL:
                if self._folder is None:
                    return None
                loaded = TensorProto()
                loaded.CopyFrom(tensor)
                external_data_helper.load_external_data_for_tensor(loaded, str(self._folder))
                tensor = loaded
            return np.asarray(numpy_helper.to_array(tensor))
        except Exception:  # whatever a damaged tensor makes of numpy: it counts as unknown, so as not zero
            return None

    def _fold(self, step: Step) -> None:
        """Computes a small constant, so that what it decides is known."""
        arrays = [self._value(name) for name in step.inputs if name]
        if not arrays or any(array is None for array in arrays) or step.node is None:
            return
        for name, result in _computed(step.node, [array for array in arrays if array is not None]).items():
            self._known[name] = result
            self._bounds[name] = self._greatest_of(result)

    @staticmethod
    def _greatest_of(array: NDArray[Any]) -> float:
        return float(np.abs(array.astype(np.float64)).max()) if array.size and array.dtype != object else 0.0


_ANY_SIZE = 2**62

_ROUNDS = 12
"""Sizes that depend on sizes: a U-Net of so many levels is followed to its bottom."""


def _computed(node: onnx.NodeProto, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs of an operator on small constants; nothing where ONNX's reference does not know it."""
    from onnx.reference import ReferenceEvaluator

    try:
        feeds = dict(zip((name for name in node.input if name), arrays, strict=True))
        results = ReferenceEvaluator(node).run(None, feeds)
    except Exception:  # whatever a damaged operator makes of numpy
        return {}
    pairs = zip(node.output, results, strict=False)
    return {name: np.asarray(found) for name, found in pairs if name and np.size(found) <= _SMALL}


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its functions written out, at the nominal size, with the types and sizes of all values.

    Where that fails, the graph as it is: sizes are then not known.
    """
    from onnx import inliner, shape_inference

    light = _without_weights(model)
    try:
        if light.functions:
            light = inliner.inline_local_functions(light)
        weights = {tensor.name for tensor in light.graph.initializer}
        for value in light.graph.input:
            if value.name not in weights:
                _fix(value.type.tensor_type.shape.dim)
        for node in light.graph.node:
            if node.op_type in _ALSO_KNOWN_AS and node.domain:
                node.op_type, node.domain = _ALSO_KNOWN_AS[node.op_type], ""
                kept = [a for a in node.attribute if not a.name.startswith(("activation", "transBatch"))]
                del node.attribute[:]
                node.attribute.extend(kept)
        # Sizes that the file claims for values inside would contradict the nominal one.
        del light.graph.value_info[:]
        sized: onnx.ModelProto = shape_inference.infer_shapes(light, data_prop=True)
    except Exception:  # damaged graphs are refused elsewhere, in words
        sized = light
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in sized.graph.initializer:
        if tensor.name in stored:
            tensor.CopyFrom(stored[tensor.name])
    return sized


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that is cheap to pass on: of large constants, type and sizes alone."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if math.prod(tensor.dims) > _SMALL:
            named = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            named.data_location = onnx.TensorProto.EXTERNAL
            named.external_data.add(key="location", value="-")
            tensor.CopyFrom(named)
    return light


def _fix(dims: Sequence[onnx.TensorShapeProto.Dimension]) -> None:
    """Gives dynamic sizes the nominal ones: one image, three channels where they are not the last axis."""
    if len(dims) != 4:
        usual = (1, *[NOMINAL_SIDE] * (len(dims) - 1))
    elif dims[3].dim_value == 3 and dims[1].dim_value != 3:
        usual = (1, NOMINAL_SIDE, NOMINAL_SIDE, 3)
    else:
        usual = (1, 3, NOMINAL_SIDE, NOMINAL_SIDE)
    for dim, side in zip(dims, usual, strict=True):
        if dim.dim_value <= 0:
            dim.dim_value = side
