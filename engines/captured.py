"""A network on a GPU as captured graphs: one for each shape, replayed at every step of a search by gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.engine import Capabilities, Engine


class CapturedEngine:
    """Records the kernels of a forward and a backward pass once for each shape, and launches them together afterwards.

    What is kept of a graph is its memory: an answer is valid until the next call with its shape. Calls without
    gradients run as they are.

    Args:
        engine: A differentiable engine on a CUDA device that waits for nothing while it runs.

    Raises:
        UsageError: It runs elsewhere.
    """

    def __init__(self, engine: Engine) -> None:
        if not engine.capabilities.device.startswith("cuda"):
            raise UsageError(
                f"a captured graph holds kernels of a GPU, and the source runs on {engine.capabilities.device}: "
                "leave --cuda-graph out, or use --device cuda"
            )
        self._engine = engine
        self._graphs: dict[tuple[torch.Size, torch.dtype], Callable[[Tensor], Tensor]] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._engine.capabilities

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """The engine's own answer, with gradients where `batch` requires them.

        Raises:
            EnvironmentProblem: The network does something that cannot be recorded.
        """
        if not (torch.is_grad_enabled() and batch.requires_grad):
            return self._engine.run(batch, out)
        answer = self._graph(batch)(batch)
        return answer if out is None else out.copy_(answer)

    def _graph(self, batch: Tensor) -> Callable[[Tensor], Tensor]:
        key = (batch.shape, batch.dtype)
        if key not in self._graphs:
            try:
                made: Any = torch.cuda.make_graphed_callables(
                    self._engine.run, (torch.zeros_like(batch).requires_grad_(),)
                )
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise EnvironmentProblem(
                    f"the source cannot be captured as a CUDA graph ({reason}): leave --cuda-graph out"
                ) from error
            self._graphs[key] = made
        return self._graphs[key]

    def close(self) -> None:
        """Releases the graphs and the engine."""
        self._graphs.clear()
        self._engine.close()
