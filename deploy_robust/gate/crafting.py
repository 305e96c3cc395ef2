"""Adversarial images for the cases of a batch, drawn by the keys of the cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.attack import Access, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """

    attack: Attack
    against: str | None = None
    drawn_as: str | None = None


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
        needs_truth = all(row.truth is not None for row in rows)
        return Task(
            x=torch.cat([row.rainy for row in rows]).to(device),
            eps=torch.tensor([case.level / 255 for case in cases], device=device).view(-1, 1, 1, 1),
            seed=self._seed,
            keys=tuple((case.pair, planned.drawn_as or case.attack, case.level) for case in cases),
            restore=None if restorer is None else self._answers.watched(str(planned.against), cases, rows),
            clean_output=None
            if planned.against is None
            else torch.cat([_tensor(self._answers.clean(row, planned.against)) for row in rows]),
            ground_truth=torch.cat([_tensor(row.truth) for row in rows]).to(device) if needs_truth else None,
            start=starts.of(cases, str(planned.against), device) if planned.attack.access is Access.QUERIES else None,
            labels=[row.pair.labels for row in rows],
            draft=None
            if restorer is None or restorer.draft is None
            else self._answers.watched(str(planned.against), cases, rows, restorer.draft),
        )


def _tensor(value: Tensor | Defect | None) -> Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"an image was expected here, and there is {value!r}")
    return value
