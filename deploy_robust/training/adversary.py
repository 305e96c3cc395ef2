"""The adversarial loss: how far a network's answer can be moved inside the ball (arXiv 2203.16931, eq. 9 and 10).

TRADES (Zhang et al., ICML 2019) for images: the inner maximum is PGD against the network's own answer, and its value is
added to the supervised loss. The paper publishes neither lambda nor the inner steps; both are settings here.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from deploy_robust.attacks.ascent import GradientAscent, Start
    from deploy_robust.models.derainer import Derainer, TrainingOutputs
    from deploy_robust.training.crops import Batch

Distance = Literal["mse", "norm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """The term ``lambda * max over |delta| <= eps of D(f(x + delta), f(x))``, without its lambda.

    Attributes:
        epsilon: Radius of the L-infinity ball in grey levels, n of n/255.
        iterations: Gradients of the inner PGD.
        step_ratio: alpha / epsilon of the inner PGD.
        start: Where it begins: a ``uniform`` draw from the ball, or one of its ``corners``. ``zero`` is refused, since
            D(f(x), f(x)) is least there and its gradient exactly zero.
        distance: ``mse``, the mean squared difference over pixels, or ``norm``, its root for each image (eq. 10 as
            printed, up to the constant factor of the number of pixels).
        detach: Whether the clean answer counts as fixed. False follows eq. 10 to the letter: both answers are moved.

    Raises:
        UsageError: A value is out of range.
    """

    epsilon: float = 4.0
    iterations: int = 4
    step_ratio: float = 0.5
    start: Start = "uniform"
    distance: Distance = "mse"
    detach: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 255:
            raise UsageError(f"the adversary's epsilon is in grey levels, above 0 and at most 255 (got {self.epsilon})")
        if self.distance not in get_args(Distance):
            raise UsageError(f"the adversary's distance is mse or norm (got {self.distance!r})")
        if self.start == "zero":
            raise UsageError(
                "an adversary that starts at zero has no gradient there, since the distance to the network's own "
                "answer is least at that answer: start at uniform or corners"
            )
        self._search()  # refuses what is out of range

    def to_dict(self) -> dict[str, str | int | float | bool]:
        """Plain data for the record; `start` only where it is another than before there was a choice."""
        data = asdict(self)
        if self.start == "uniform":
            del data["start"]
        return data

    def __call__(self, model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
        """See `deploy_robust.training.losses.LossTerm`; the draws are keyed by `Batch.key` and the row."""
        clean = outputs.final.detach() if self.detach else outputs.final
        with _evaluating(model):
            attacked = self.attack(model, batch, outputs.final.detach())
        moved = (model.training_outputs(attacked).final - clean).square()
        if self.distance == "mse":
            return moved.mean()
        # The root has no derivative at zero, where a network that cannot be moved would put it.
        return (moved.flatten(1).mean(1) + 1e-12).sqrt().mean()

    def attack(self, model: Derainer, batch: Batch, clean_output: Tensor) -> Tensor:
        """The inner maximum: images (N, 3, H, W) in the ball around `batch.rainy` and in [0, 1]."""
        rows = batch.rainy.shape[0]
        task = Task(
            x=batch.rainy,
            eps=batch.rainy.new_full((rows, 1, 1, 1), self.epsilon / 255),
            seed=0,
            keys=tuple(("adversary", *batch.key, batch.first_row + row) for row in range(rows)),
            restore=model,
            clean_output=clean_output,
        )
        # Perturbed values are rearranged by nothing, but a stack of draws is not channels last as the batch is.
        images = self._search().craft(task).images.detach()
        return images.contiguous(memory_format=torch.channels_last)

    def _search(self) -> GradientAscent:
        return pgd_lmse(iterations=self.iterations, step_ratio=self.step_ratio, start=self.start, keep_best=False)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that the inner steps leave no trace in running statistics; modes are restored."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
