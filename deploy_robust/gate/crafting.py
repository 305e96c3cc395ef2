"""Adversarial images for the cases of a batch, drawn by the keys of the cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.attack import Access, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Attack, Crafted
    from deploy_robust.gate.answers import Answers
    from deploy_robust.gate.prepared import Prepared
    from deploy_robust.gate.records import Case, Defect
    from deploy_robust.gate.starts import Starts
    from deploy_robust.restorer import Restorer


@dataclass(frozen=True, slots=True)
class PlannedAttack:
    """An attack and the network that it is crafted on.

    Attributes:
        attack: The attack.
        against: Role of that network; None for attacks that look at none.
        drawn_as: Name that its random draws are keyed by; None takes that of its cases. One attack on several networks
            starts from the same draws everywhere, and what differs then is the networks' doing.
        minus: Role of a second network, whose answer is taken from the first one's: the attack sees their difference,
            as `attacks.divergence` does. None for attacks on one network.
    """

    attack: Attack
    against: str | None = None
    drawn_as: str | None = None
    minus: str | None = None

    @property
    def networks(self) -> tuple[str, ...]:
        """Roles of the networks that it looks at."""
        return tuple(role for role in (self.against, self.minus) if role is not None)


class Crafter:
    """Crafts.

    Args:
        subjects: Networks by role.
        answers: What they answer.
        seed: The run's seed; all draws are keyed by it.
    """

    def __init__(self, subjects: Mapping[str, Restorer], answers: Answers, seed: int) -> None:
        self._subjects, self._answers, self._seed = subjects, answers, seed

    def __call__(self, planned: PlannedAttack, cases: list[Case], rows: list[Prepared], starts: Starts) -> Crafted:
        """Adversarial images, one row for each case.

        Args:
            planned: The attack; the network that it is crafted on answers the clean images.
            cases: What it is asked for, images of one size.
            rows: The pair of each case.
            starts: Where a search by queries may start.

        Raises:
            EngineDefect: The network failed on an image of the attack.
        """
        task = self._task(planned, cases, rows, starts)
        if planned.attack.access is Access.GRADIENTS:
            return planned.attack.craft(task)
        with torch.no_grad():
            return planned.attack.craft(task)

    def _task(self, planned: PlannedAttack, cases: list[Case], rows: list[Prepared], starts: Starts) -> Task:
        restorer = None if planned.against is None else self._subjects[planned.against]
        device = "cpu" if restorer is None else restorer.capabilities.device
        alone = planned.minus is None  # a difference has no truth, no draft, and starts from no other attack's images
        has_truth = alone and all(row.truth is not None for row in rows)
        may_start = alone and planned.attack.access is Access.QUERIES
        return Task(
            x=torch.cat([row.rainy for row in rows]).to(device),
            eps=torch.tensor([case.level / 255 for case in cases], device=device).view(-1, 1, 1, 1),
            seed=self._seed,
            keys=tuple((case.pair, planned.drawn_as or case.attack, case.level) for case in cases),
            restore=None if restorer is None else self._restore(planned, cases, rows),
            clean_output=self._clean_output(planned, rows),
            ground_truth=torch.cat([_tensor(row.truth) for row in rows]).to(device) if has_truth else None,
            start=starts.of(cases, str(planned.against), device) if may_start else None,
            labels=[row.pair.labels for row in rows],
            draft=None
            if restorer is None or restorer.draft is None or not alone
            else self._answers.watched(str(planned.against), cases, rows, restorer.draft),
        )

    def _restore(self, planned: PlannedAttack, cases: list[Case], rows: list[Prepared]) -> Callable[[Tensor], Tensor]:
        """The network that is attacked, or the difference of the two."""
        first, *second = (self._answers.watched(role, cases, rows) for role in planned.networks)
        if not second:
            return first

        def difference(x: Tensor) -> Tensor:
            answer = first(x)
            return answer - second[0](x).to(answer.device)

        return difference

    def _clean_output(self, planned: PlannedAttack, rows: list[Prepared]) -> Tensor | None:
        """Its answers to the clean images."""
        outputs = [torch.cat([_tensor(self._answers.clean(row, role)) for row in rows]) for role in planned.networks]
        if len(outputs) < 2:
            return outputs[0] if outputs else None
        return outputs[0] - outputs[1].to(outputs[0].device)


def _tensor(value: Tensor | Defect | None) -> Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"an image was expected here, and there is {value!r}")
    return value
