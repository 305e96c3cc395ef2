"""A graph made ready to run: constants computed once, quantiser pairs joined, values let go after their last use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from deploy_robust.engines.literal import ops as _ops  # noqa: F401  # fills the table
from deploy_robust.engines.literal.operators import OPERATORS, Operator
from deploy_robust.engines.literal.quantisers import quantise
from deploy_robust.engines.literal.rounding import narrow_dtype, round_to
from deploy_robust.errors import DeployRobustError
from deploy_robust.models.layout import fast_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from deploy_robust.engines.literal.graph import Graph, Node
    from deploy_robust.engines.literal.operators import Compute
    from deploy_robust.engines.literal.quantisers import Gradient

Observer: TypeAlias = "Callable[[Node, str, Tensor], None]"
"""Told of every output: the node, the name of the value, the value."""


class NodeFailure(Exception):  # noqa: N818  # a finding about a node, which the engine words for the user
    """A node that failed while it ran; the cause is its ``__cause__``."""

    def __init__(self, node: Node, cause: Exception) -> None:
        super().__init__(f"{node}: {cause}")
        self.node = node


@dataclass(frozen=True, slots=True)
class Step:
    """One node that runs at every call.

    Attributes:
        node: The node; of a joined pair, the second.
        inputs: Names of the values it is given.
        compute: What runs.
        dies: Values that nothing needs after this step.
    """

    node: Node
    inputs: tuple[str, ...]
    compute: Compute
    dies: tuple[str, ...] = ()

    def __call__(self, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs of the node, from values by name.

        Raises:
            NodeFailure: The operator failed on them.
        """
        try:
            found = self.compute(*[values[name] if name else None for name in self.inputs])
        except DeployRobustError:
            raise
        except Exception as error:
            raise NodeFailure(self.node, error) from error
        return found if isinstance(found, tuple) else (found,)


class Program:
    """Runs a graph on one device.

    Args:
        graph: What to run.
        device: Where; sizes and axes are computed on the CPU always.
        gradient: How gradients pass a quantiser that saturates.
        join: Whether quantise-dequantise pairs run as one; the result is the same.

    Attributes:
        graph: The graph.
        constants: Constants and everything that follows from them alone.
        steps: What runs at every call.

    Raises:
        ArtefactError: A node is not covered; it is named.
    """

    def __init__(self, graph: Graph, device: torch.device, gradient: Gradient = "clamp", *, join: bool = True) -> None:
        self.graph, self._device, self._gradient = graph, device, gradient
        # Constants made in inference mode could never take part in a backward pass.
        with torch.inference_mode(False), torch.no_grad():
            self.constants = {name: self._placed(value) for name, value in graph.constants.items()}
            steps = [self._step(node) for node in graph.nodes]
            _check_codes(graph.nodes)
            steps = self._folded(steps)
        if join:
            steps = self._joined(steps)
        self.steps = _with_deaths(steps, graph.answer)
        needed = {name for step in self.steps for name in step.inputs} | {graph.answer}
        self.constants = {name: self._laid_out(value) for name, value in self.constants.items() if name in needed}
        self._image_narrow = narrow_dtype(graph.types.get(graph.image, 0))

    def run(self, image: Tensor, observe: Observer | None = None) -> Tensor:
        """The graph's output for one input.

        Args:
            image: The graph's input, on the device.
            observe: Told of every output.

        Raises:
            NodeFailure: An operator failed on its inputs.
        """
        values: dict[str, Tensor] = dict(self.constants)
        values[self.graph.image] = image if self._image_narrow is None else round_to(image, self._image_narrow)
        del image
        for step in self.steps:
            for name, value in zip(step.node.outputs, step(values), strict=False):
                values[name] = value
                if observe is not None and name:
                    observe(step.node, name, value)
            for name in step.dies:
                del values[name]
        return values[self.graph.answer].contiguous()

    def _placed(self, value: Tensor) -> Tensor:
        """Numbers to compute with on the device; whole numbers, which are sizes or codes, on the CPU."""
        return value.to(self._device) if value.is_floating_point() else value

    def _laid_out(self, value: Tensor) -> Tensor:
        """Weights in the layout in which convolutions are fast, which the values between them then take over."""
        if value.dim() != 4 or not value.is_floating_point():
            return value
        return value.contiguous(memory_format=fast_layout(self._device))

    def _step(self, node: Node) -> Step:
        found = OPERATORS.get(node.op)
        if node.op == "QuantizeLinear":
            found = Operator(lambda node: quantise(node, self._gradient), moves=True, host=())
        if found is None:
            raise node.refused("its operator is not known here")
        try:
            compute = found.build(node)
        except DeployRobustError:
            raise
        except Exception as error:  # an attribute is missing, or of another kind than ONNX says
            raise node.refused(f"its attributes cannot be read: {type(error).__name__} {error}") from error
        unread = [name for name in node.attributes.unread if name not in found.ignores]
        if unread:
            raise node.refused(f"attribute {unread[0]}")
        return Step(node, node.inputs, self._on_device(self._rounded(node, compute, found.moves), found.host))

    def _rounded(self, node: Node, compute: Compute, moves: bool) -> Compute:
        narrow = next((found for element in node.output_types if (found := narrow_dtype(element))), None)
        if not moves and any(map(narrow_dtype, node.input_types)) and 0 in node.output_types:
            raise node.refused("the type of its output is not known, in a graph of narrow types")
        # Constants are stored in their type; made from half precision they need no rounding again.
        if narrow is None or moves:
            return compute

        def run(*inputs: Tensor) -> Any:
            found = compute(*inputs)
            return tuple(round_to(x, narrow) for x in found) if isinstance(found, tuple) else round_to(found, narrow)

        return run

    def _on_device(self, compute: Compute, host: tuple[int, ...]) -> Compute:
        """Brings the inputs of a node together; on the CPU there is nothing to bring."""
        if self._device.type == "cpu":
            return compute

        def run(*inputs: Tensor | None) -> Any:
            there = any(x is not None and x.device == self._device for i, x in enumerate(inputs) if i not in host)
            moved = (
                x if x is None or (i not in host and not there) else x.cpu() if i in host else x.to(self._device)
                for i, x in enumerate(inputs)
            )
            return compute(*moved)

        return run

    def _folded(self, steps: Iterable[Step]) -> list[Step]:
        """Runs what depends on constants alone, once and without gradients."""
        left = []
        for step in steps:
            if not all(name in self.constants for name in step.inputs if name):
                left.append(step)
                continue
            try:
                found = step(self.constants)
            except NodeFailure as failure:
                raise step.node.refused(f"it fails on its constants: {failure.__cause__}") from failure
            self.constants.update(zip(step.node.outputs, found, strict=False))
        return left

    def _joined(self, steps: list[Step]) -> list[Step]:
        """Joins a QuantizeLinear with the DequantizeLinear that alone reads its codes, at the same scale."""
        readers: dict[str, int] = {self.graph.answer: 2}
        for step in steps:
            for name in step.inputs:
                readers[name] = readers.get(name, 0) + 1
        quantisers = {step.node.outputs[0]: step for step in steps if step.node.op == "QuantizeLinear"}
        joined: list[Step] = []
        dropped: set[str] = set()
        for step in steps:
            code = step.inputs[0] if step.inputs else ""
            first = quantisers.get(code) if step.node.op == "DequantizeLinear" else None
            if first is None or readers[code] != 1 or not self._same_scale(first, step):
                joined.append(step)
                continue
            compute = self._rounded(step.node, quantise(first.node, self._gradient, back=True), False)
            joined.append(Step(step.node, first.inputs, self._on_device(compute, ())))
            dropped.add(code)
        return [step for step in joined if step.node.op != "QuantizeLinear" or step.node.outputs[0] not in dropped]

    def _same_scale(self, first: Step, second: Step) -> bool:
        a, b = _parameters(first), _parameters(second)
        if a != b:
            known = all(name in self.constants for name in (*a, *b))
            if not known or len(a) != len(b):
                return False
            if not all(torch.equal(self.constants[p], self.constants[q]) for p, q in zip(a, b, strict=True)):
                return False
        axes = [step.node.attributes.get("axis", 1) for step in (first, second)]
        return bool(axes[0] == axes[1])


def _parameters(step: Step) -> tuple[str, ...]:
    return tuple(name for name in step.inputs[1:] if name)


def _check_codes(nodes: Iterable[Node]) -> None:
    """Codes are held as float32, so that only what moves them or knows them may read them."""
    codes: set[str] = set()
    for node in nodes:
        touched = next((name for name in node.inputs if name in codes), None)
        if node.op == "QuantizeLinear":
            codes.add(node.outputs[0])
        elif touched is None or node.op in ("DequantizeLinear", "Cast", "Shape", "Size"):
            continue
        elif OPERATORS[node.op].moves:
            codes.update(node.outputs)
        else:
            raise node.refused(f"it computes with the codes {touched!r}")


def _with_deaths(steps: list[Step], answer: str) -> tuple[Step, ...]:
    last: dict[str, int] = {}
    for index, step in enumerate(steps):
        for name in (*step.inputs, *step.node.outputs):
            if name:
                last[name] = index
    last.pop(answer, None)
    dying: dict[int, list[str]] = {}
    for name, index in last.items():
        dying.setdefault(index, []).append(name)
    return tuple(Step(s.node, s.inputs, s.compute, tuple(dying.get(i, ()))) for i, s in enumerate(steps))
