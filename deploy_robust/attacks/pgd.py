"""Projected gradient descent (Madry et al., ICLR 2018) as the paper runs it (arXiv 2203.16931, eq. 2 to 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.attacks.ascent import GradientAscent
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.steps.sign import SignStep

if TYPE_CHECKING:
    from deploy_robust.attacks.ascent import Start
    from deploy_robust.attacks.objectives.objective import Objective
    from deploy_robust.attacks.objectives.references import Reference


def pgd(
    objective: Objective,
    *,
    iterations: int = 20,
    step_ratio: float = 0.25,
    start: Start = "uniform",
    restarts: int = 1,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> GradientAscent:
    """Random start, sign steps, projection to the ball and to [0, 1].

    Args:
        objective: What is maximised.
        iterations: T; 20 in the paper.
        step_ratio: alpha / eps; a quarter in the paper.
        start: ``uniform`` in the ball, random ``corners`` of it, or ``zero``: its centre, where LMSE is flat.
        restarts: Independent random starts; each row keeps its best.
        keep_best: Return each row's best iterate; the paper returns the last.
        stop_psnr: A row is done once its PSNR falls below this, in dB; 0 never stops. See `GradientAscent`.
        stop_drop: A row is done once it has lost so many dB; 0 never stops.
    """
    return GradientAscent(
        name=f"pgd-{objective.name}",
        objective=objective,
        step=SignStep(step_ratio),
        iterations=iterations,
        start=start,
        restarts=restarts,
        keep_best=keep_best,
        stop_psnr=stop_psnr,
        stop_drop=stop_drop,
    )


def pgd_lmse(
    *,
    reference: Reference = "clean-output",
    iterations: int = 20,
    step_ratio: float = 0.25,
    start: Start = "uniform",
    restarts: int = 1,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> GradientAscent:
    """PGD on `LMSE`; for the arguments see `pgd` and `LMSE`."""
    return pgd(
        LMSE(reference),
        iterations=iterations,
        step_ratio=step_ratio,
        start=start,
        restarts=restarts,
        keep_best=keep_best,
        stop_psnr=stop_psnr,
        stop_drop=stop_drop,
    )
