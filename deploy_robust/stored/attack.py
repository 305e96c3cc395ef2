"""An attack that was crafted before: it looks its images up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.attacks.attack import Access, Crafted
from deploy_robust.attacks.threat import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.attacks.attack import Task
    from deploy_robust.stored.adversarial_set import AdversarialSet


@dataclass(frozen=True, slots=True)
class StoredAttack:
    """The images of one attack of a set, by the key of each row: (pair, attack, level).

    Attributes:
        name: Name in the set.
        stored: The set.
    """

    name: str
    stored: AdversarialSet

    @property
    def access(self) -> Access:
        """What it needed when it was crafted: what a search has found is measured one image at a time."""
        return Access(self.stored.index.attacks[self.name].access)

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Those that it was crafted with."""
        return self.stored.index.attacks[self.name].settings

    def craft(self, task: Task) -> Crafted:
        """Reads the images, and as facts what was observed when they were crafted.

        Raises:
            InputError: The set does not hold them, or a file was changed.
        """
        cases = [self.stored.case(str(pair), str(attack), float(level)) for pair, attack, level in task.keys]
        images = np.stack([self.stored.attacked(case) for case in cases])
        codes = torch.from_numpy(images).permute(0, 3, 1, 2).to(task.x)
        known = set.intersection(*(set(case.facts) for case in cases))
        facts = {
            name: torch.tensor([case.facts[name] for case in cases], dtype=torch.float64)
            for name in cases[0].facts
            if name in known
        }
        return Crafted(codes / LEVELS, facts)
