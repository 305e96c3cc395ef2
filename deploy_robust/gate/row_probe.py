"""The row probe: whether an engine's answer to an image depends on where in a batch the image stands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from deploy_robust.gate.parity import compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ROWS_APART = "rows_max_abs"
"""Greatest difference between the answers to one image in two rows of a batch."""

BATCH_APART = "batch_max_abs"
"""Greatest difference between the answer to an image in a batch and the answer to it alone."""

BATCH_DB = "batch_db"
"""The same as PSNR in dB, of the row that is furthest off; infinite where all are identical."""

PROBED_ROWS = 4
"""Rows of the batch."""


def row_answers(restore: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An image in each of four rows in turn; the other rows hold its mirror images, so that a mixed-up row shows.

    Args:
        restore: Maps (N, 3, H, W) float32 in [0, 1] to the same shape.
        x: The image, (1, 3, H, W).

    Returns:
        (4, 3, H, W): the answer that came from each row.

    Raises:
        EngineDefect: The network failed on the batch.
    """
    batch = torch.cat([x, x.flip(-1), x.flip(-2), x.flip(-1, -2)])
    answers = [restore(batch.roll(row, 0))[row : row + 1].detach().cpu() for row in range(PROBED_ROWS)]
    return torch.cat(answers)


def differences(answers: Tensor, alone: Tensor) -> dict[str, float]:
    """How far the answers of the rows are from each other, and from the one (1, 3, H, W) that came alone."""
    spread = float((answers.amax(0) - answers.amin(0)).max())
    apart = [next(compare(alone.detach().cpu(), answer[None])) for answer in answers]
    lowest = min((each.psnr_db for each in apart), default=math.inf)
    return {ROWS_APART: spread, BATCH_APART: max(each.max_abs for each in apart), BATCH_DB: lowest}
