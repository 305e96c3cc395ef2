"""The loss of each row and its gradient, as a search by gradients sees them: rows that are done are not asked again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.attacks.attack import Task
    from deploy_robust.attacks.bound import Bound
    from deploy_robust.attacks.objectives.objective import Loss

    Network = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class Slope:
    """The objective over a batch of images.

    Attributes:
        restore: The network, which scores.
        search: What gradients go through: the network, or a draft of it.
        loss: The objective, prepared for the task.
        reference: What violations are measured against, (N, 3, H, W).
        limit: Mean squared error from which on a row is violated, (N,); None never stops a row.
        done: Rows that are violated, (N,) bool; they cost nothing more.
        spent: Gradients of each row, (N,).
    """

    restore: Network
    search: Network
    loss: Loss
    reference: Tensor
    limit: Tensor | None
    done: Tensor
    spent: Tensor
    _seen: Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(cls, task: Task, loss: Loss, bound: Bound | None) -> Slope:
        """Before the first step.

        Raises:
            UsageError: The task has no network, or nothing to measure violations against where rows stop.
        """
        if task.restore is None:
            raise UsageError("an attack by gradients needs a differentiable source")
        reference = task.ground_truth if task.ground_truth is not None else task.clean_output
        if bound is not None and reference is None:
            raise UsageError("an early stop needs ground truth or clean outputs to measure violations against")
        reference = task.x if reference is None else reference.to(task.x).clamp(0, 1)
        rows = task.x.new_zeros(task.x.shape[0])
        return cls(
            task.restore,
            task.restore if task.draft is None else task.draft,
            loss,
            reference,
            None if bound is None else bound.error(task, reference),
            rows.to(torch.bool),
            rows,
        )

    @property
    def drafted(self) -> bool:
        """Whether gradients go through another network than the one that scores."""
        return self.search is not self.restore

    @property
    def all_done(self) -> bool:
        """Whether no row is left to search; waits for the device where rows may stop, and only there."""
        return self.limit is not None and bool(self.done.all())

    def begin(self) -> None:
        """Starts another search; what an earlier one has violated stays done."""
        self.spent = torch.zeros_like(self.spent)

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each row, (N,), and its gradient with respect to that row, shaped as `z`; neither holds NaN.

        Raises:
            UsageError: The network gives no gradients.
        """
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            restored = self._answers(self.search, z)
            loss = self.loss(restored)
            if not loss.requires_grad:
                raise UsageError(
                    "the network gives no gradients: craft on a differentiable source, or use noise attacks"
                )
            (gradient,) = torch.autograd.grad(loss.sum(), z)
        if self.limit is not None:
            self._note(z.detach(), restored.detach())
        return nan_is_infinite(loss.detach()), gradient.nan_to_num(nan=0.0)

    def hold(self, z: Tensor, ahead: Tensor) -> Tensor:
        """The next iterate: `ahead`, and `z` where the row is done."""
        return ahead if self.limit is None else torch.where(self.done.view(-1, 1, 1, 1), z, ahead)

    def score(self, z: Tensor, *, last: bool = False) -> Tensor:
        """Loss of each row by the network itself, (N,), of a row that is done at its violation; NaN counts as infinite.

        Args:
            z: Images.
            last: They end the search: rows that they violate are done, too.
        """
        with torch.no_grad():
            restored = self._answers(self.restore, z)
            if last:
                self.done = self.done | self._breaks(restored, slice(None))
            return nan_is_infinite(self.loss(restored))

    def _answers(self, network: Network, z: Tensor) -> Tensor:
        if self._seen is None or not bool(self.done.any()):
            return network(z)
        # Their last answers stand in for rows that are done, so that the objective still sees its whole batch.
        rows = (~self.done).nonzero().flatten()
        return self._seen.index_copy(0, rows, network(z[rows])) if len(rows) else self._seen

    def _note(self, z: Tensor, restored: Tensor) -> None:
        """Finds the rows that are done now; a draft's finding counts where the network itself confirms it."""
        self.spent = self.spent + (~self.done).to(self.spent)
        self._seen = restored.clone()  # a captured network answers where it answered before
        rows = (self._breaks(restored, slice(None)) & ~self.done).nonzero().flatten()
        if self.drafted and len(rows):
            with torch.no_grad():
                answers = self.restore(z[rows])
            broken = self._breaks(answers, rows)
            rows = rows[broken]
            self._seen = self._seen.index_copy(0, rows, answers[broken])
        self.done = self.done.index_fill(0, rows, True)

    def _breaks(self, restored: Tensor, rows: Tensor | slice) -> Tensor:
        """Which of the rows are violated; an answer that is not finite is a violation."""
        if self.limit is None:
            return torch.zeros_like(self.done)[rows]
        error = (restored.clamp(0, 1) - self.reference[rows]).square().mean((1, 2, 3))
        return ~(error < self.limit[rows]) | ~torch.isfinite(restored).flatten(1).all(1)


def nan_is_infinite(loss: Tensor) -> Tensor:
    """A network that answers NaN is broken: nothing is worse."""
    return loss.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
