"""The learning rate over the course of a training."""

from __future__ import annotations

import math


def cosine(step: int, *, steps: int, peak: float, final: float, warmup: int = 0) -> float:
    """Linear warm-up to `peak`, then half a cosine down to `final` (Loshchilov and Hutter, ICLR 2017; no restarts).

    Args:
        step: 0 for the first step, `steps` - 1 for the last.
        steps: Steps in all.
        peak: Highest rate, reached at step `warmup`.
        final: Rate after the last step.
        warmup: Steps of warm-up; fewer than `steps`.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (peak - final) * (1.0 + math.cos(math.pi * progress)) / 2.0
