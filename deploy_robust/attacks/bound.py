"""What counts as a violation, so that a search may end there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.attacks.attack import Task

BROKEN = 1.0e6
"""Error of an image whose answer is not finite: worse than any image, whose error is 1 at most."""

_IDENTICAL = 1e-10
"""Mean squared error that counts as none: 100 dB."""

_UNREACHABLE = 200.0
"""A drop in dB that no finite answer reaches: from 100 dB to 0 is half of it. Greater ones are none, and overflow."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What counts as a violation, per image; a stage of a search ends there.

    Attributes:
        psnr: PSNR in dB against the reference below which an image is violated; 0 for none.
        drop: Loss of PSNR in dB against that of the clean output above which it is; 0 for none. Needs ground truth.
    """

    psnr: float = 0.0
    drop: float = 0.0

    def error(self, task: Task, reference: Tensor) -> Tensor:
        """Mean squared error from which on each row is violated, (N,)."""
        allowed = task.x.new_full((task.x.shape[0],), 10 ** (-self.psnr / 10) if self.psnr > 0 else BROKEN)
        if self.drop <= 0:
            return allowed
        if task.ground_truth is None or task.clean_output is None:
            raise UsageError("a drop in dB is against the clean output's PSNR and needs ground truth and clean outputs")
        clean = (task.clean_output.to(task.x).clamp(0, 1) - reference).square().mean((1, 2, 3))
        return torch.minimum(allowed, clean.clamp(min=_IDENTICAL) * 10 ** (min(self.drop, _UNREACHABLE) / 10))


def psnr_of(error: Tensor) -> Tensor:
    """PSNR in dB, peak 1, of mean squared errors; at most 100."""
    return -10 * error.clamp(min=_IDENTICAL).log10()
