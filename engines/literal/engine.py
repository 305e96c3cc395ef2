"""The literal engine behind the engine protocol."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.artefact.precision import shares_of
from deploy_robust.engine import Capabilities, EngineOptions, Health
from deploy_robust.engines.literal import graph as graphs
from deploy_robust.engines.literal.program import NodeFailure, Program
from deploy_robust.engines.literal.watch import RangeWatch
from deploy_robust.engines.torch_module import usable_device
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx
    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.engines.literal.program import Observer
    from deploy_robust.engines.literal.quantisers import Gradient


class LiteralEngine:
    """An ONNX graph run node by node in torch, in the graph's own arithmetic; autograd runs through its input.

    Values of float16 and bfloat16 are held as float32 and rounded after every node that computes: sums inside a node,
    those of a convolution for instance, are float32. Gradients pass all rounding straight through.

    Args:
        model: The graph, its weights loaded.
        device: Torch device string.
        gradient: How gradients pass a quantiser: ``clamp`` stops them where it saturated, ``pass`` never.

    Raises:
        ArtefactError: A node is not covered; it is named.
        EnvironmentProblem: The device is not there.
    """

    def __init__(self, model: onnx.ModelProto, device: str = "cpu", *, gradient: Gradient = "clamp") -> None:
        if gradient not in ("clamp", "pass"):
            raise UsageError(f"the gradient of a quantiser is clamp or pass (got {gradient!r})")
        where = usable_device(device)
        graph = graphs.read(model)
        self._program: Program | None = Program(graph, where, gradient)
        self._takes = graphs.held_dtype(graph.types[graph.image])
        self._observers: list[Observer] = []
        self._nodes = tuple(node.name for node in graph.nodes)
        shares = shares_of(model)
        self._capabilities = Capabilities(
            runtime=f"literal (torch {torch.__version__})",
            provider=where.type,
            device=str(where),
            threads=torch.get_num_threads() if where.type == "cpu" else None,
            deterministic=where.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
            differentiable=self._takes.is_floating_point,
            arithmetic="literal",
            precision=shares.judged,
            tags={"nodes": str(len(graph.nodes)), "quantiser_gradient": gradient, "work": str(shares)},
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes, in the order of the graph."""
        return self._nodes

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass, with gradients where `batch` requires them.

        A graph of float16 or bfloat16 takes and gives float32 and rounds it itself.

        Raises:
            EngineDefect: A node failed on values that the graph led it to.
            EnvironmentProblem: The device has not enough memory.
            UsageError: The input is of another type than the graph takes, or the engine is closed.
        """
        if self._program is None:
            raise UsageError("this engine is closed")
        if batch.dtype != self._takes and not (batch.is_floating_point() and self._takes.is_floating_point):
            raise UsageError(f"the graph takes {self._takes} and was given {batch.dtype}: call it through a Restorer")
        observe = self._observe if self._observers else None
        try:
            answer = self._program.run(batch.to(self._takes), observe)
        except NodeFailure as failure:
            if isinstance(failure.__cause__, torch.OutOfMemoryError):
                raise EnvironmentProblem(
                    f"{self._capabilities.device} ran out of memory on a batch of {tuple(batch.shape)}: "
                    "use smaller images or batches"
                ) from failure
            reason = str(failure.__cause__).strip().splitlines() or [type(failure.__cause__).__name__]
            raise EngineDefect(
                "crash", f"{failure.node} failed on an input of {tuple(batch.shape)}: {reason[0][:300]}"
            ) from failure
        return answer if out is None else out.copy_(answer)

    @contextlib.contextmanager
    def watch(self) -> Iterator[RangeWatch]:
        """Records the range of every value of every run inside the ``with`` block; runs take longer meanwhile."""
        watch = RangeWatch()
        with self.observed(watch):
            yield watch

    @contextlib.contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Shows an observer every value of every run inside the ``with`` block: the node, the name and the value."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    def _observe(self, node: graphs.Node, name: str, value: Tensor) -> None:
        for observer in self._observers:
            observer(node, name, value)

    def close(self) -> None:
        """Lets go of the constants."""
        self._program = None


@dataclass(frozen=True, slots=True)
class LiteralKind:
    """Opens ONNX files literally; chosen by name, since ONNX Runtime has their suffix.

    Attributes:
        gradient: How gradients pass a quantiser; see `LiteralEngine`.
    """

    name: str = "literal"
    suffixes: tuple[str, ...] = ()
    gradient: Gradient = "clamp"

    def open(self, path: Path, options: EngineOptions) -> tuple[LiteralEngine, IODescription]:
        """Reads a graph; a half-precision one is described as taking float32, so that no gradient passes a half type.

        Raises:
            ArtefactError: The file is damaged, or a node is not covered.
            EnvironmentProblem: The device is not there.
            UsageError: An option was given that a literal reading has no use for.
        """
        import onnx

        options.refuse("the literal engine", provider="choose with --device", compute="the graph says its types")
        if options.arithmetic == "fused":
            raise UsageError("the literal engine fuses nothing: use --runtime onnxruntime")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        facts = inspect(path)
        io = facts.complete(options.io) if options.io is not None else describe(path)
        try:
            model = onnx.load(str(path))
        except Exception as error:  # weights beside the file are only looked for now
            raise ArtefactError(
                f"the weights of {path} cannot be read ({error}): copy the files beside it too"
            ) from error
        try:
            engine = LiteralEngine(model, options.device, gradient=self.gradient)
        except ArtefactError as error:
            raise ArtefactError(f"{path.name}: {error}") from error
        return engine, replace(io, dtype="float32") if io.dtype == "float16" else io

    def health(self) -> list[Health]:
        """Nothing of its own: it works where the torch engine does."""
        return []


KIND = LiteralKind()
