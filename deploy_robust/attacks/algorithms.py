"""The gradient algorithms by name: which step the one loop takes, and from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.attacks.steps.apgd import APGDStep
from deploy_robust.attacks.steps.momentum import MomentumStep
from deploy_robust.attacks.steps.sign import SignStep
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.attacks.ascent import Start
    from deploy_robust.attacks.steps.step import Step


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What `GradientAscent` needs to know of an algorithm; for the fields see there."""

    step: Step
    iterations: int
    start: Start = "uniform"
    restarts: int = 1
    keep_best: bool = True
    stop_psnr: float = 0.0
    stop_drop: float = 0.0


def fgsm(*, step_ratio: float = 1.0, random_start: bool = True, keep_best: bool = False) -> Algorithm:
    """One step (Goodfellow et al., ICLR 2015), from a random start: LMSE is flat at the clean image."""
    return Algorithm(SignStep(step_ratio), 1, _random(random_start), keep_best=keep_best)


def i_fgsm(
    *,
    iterations: int = 20,
    step_ratio: float = 0.25,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> Algorithm:
    """Steps from the clean image (Kurakin et al., 2017)."""
    return Algorithm(SignStep(step_ratio), iterations, "zero", 1, keep_best, stop_psnr, stop_drop)


def pgd(
    *,
    iterations: int = 20,
    step_ratio: float = 0.25,
    start: Start = "uniform",
    restarts: int = 1,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> Algorithm:
    """Steps from random starts (Madry et al., ICLR 2018)."""
    return Algorithm(SignStep(step_ratio), iterations, start, restarts, keep_best, stop_psnr, stop_drop)


def momentum(
    *,
    iterations: int = 20,
    step_ratio: float = 0.25,
    memory: float = 1.0,
    random_start: bool = True,
    restarts: int = 1,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> Algorithm:
    """Steps along remembered gradients (Dong et al., CVPR 2018)."""
    step = MomentumStep(step_ratio, memory)
    return Algorithm(step, iterations, _random(random_start), restarts, keep_best, stop_psnr, stop_drop)


def apgd(
    *,
    iterations: int = 20,
    restarts: int = 1,
    keep_best: bool = True,
    stop_psnr: float = 0.0,
    stop_drop: float = 0.0,
) -> Algorithm:
    """Steps that halve themselves (Croce and Hein, ICML 2020)."""
    return Algorithm(APGDStep(), iterations, "uniform", restarts, keep_best, stop_psnr, stop_drop)


def _random(start: bool) -> Start:
    return "uniform" if start else "zero"


ALGORITHMS: Registry[Callable[..., Algorithm]] = Registry("algorithm")
"""Factories whose keyword arguments are the algorithm's settings; a new one is one function and one line here."""

ALGORITHMS.add("fgsm", fgsm)
ALGORITHMS.add("i-fgsm", i_fgsm)
ALGORITHMS.add("pgd", pgd)
ALGORITHMS.add("momentum", momentum)
ALGORITHMS.add("apgd", apgd)
