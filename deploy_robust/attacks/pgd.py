"""Projected gradient descent (Madry et al., ICLR 2018) as the paper runs it (arXiv 2203.16931, eq. 2 to 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.attacks.ascent import GradientAscent
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.steps.sign import SignStep

if TYPE_CHECKING:
    from deploy_robust.attacks.objectives.objective import Objective
    from deploy_robust.attacks.objectives.references import Reference


def pgd(
    objective: Objective,
    *,
    iterations: int = 20,
    step_ratio: float = 0.25,
    restarts: int = 1,
    keep_best: bool = True,
) -> GradientAscent:
    """Random start, sign steps, projection to the ball and to [0, 1].

    Args:
        objective: What is maximised.
        iterations: T; 20 in the paper.
        step_ratio: alpha / eps; a quarter in the paper.
        restarts: Independent random starts; each row keeps its best.
        keep_best: Return each row's best iterate; the paper returns the last.
    """
    return GradientAscent(
        name=f"pgd-{objective.name}",
        objective=objective,
        step=SignStep(step_ratio),
        iterations=iterations,
        random_start=True,
        restarts=restarts,
        keep_best=keep_best,
    )


def pgd_lmse(
    *,
    reference: Reference = "clean-output",
    iterations: int = 20,
    step_ratio: float = 0.25,
    restarts: int = 1,
    keep_best: bool = True,
) -> GradientAscent:
    """PGD on `LMSE`; for the arguments see `pgd` and `LMSE`."""
    return pgd(LMSE(reference), iterations=iterations, step_ratio=step_ratio, restarts=restarts, keep_best=keep_best)
