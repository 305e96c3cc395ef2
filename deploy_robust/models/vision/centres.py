"""From the dense answer of a detector to boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from deploy_robust.models.vision.detector import CELL, SIDES

if TYPE_CHECKING:
    from torch import Tensor


class Found(NamedTuple):
    """Objects in one image, the surest first.

    Attributes:
        corners: (n, 4) float32: x0, y0, x1, y1 in pixels.
        scores: (n,) float32 in [0, 1].
        classes: (n,) int64.
    """

    corners: Tensor
    scores: Tensor
    classes: Tensor


def centres(answer: Tensor, classes: int, *, threshold: float, most: int, cell: int = CELL) -> list[Found]:
    """Objects where a score is the highest of its 3x3 neighbourhood: no boxes need to be suppressed (CenterNet).

    Args:
        answer: (N, K + 4, h, w): scores before the sigmoid, then distances in pixels to the four sides.
        classes: K.
        threshold: Lowest score.
        most: Objects of an image at most.
        cell: Pixels between neighbouring places.

    Returns:
        The objects of each image.
    """
    scores, reach = answer[:, :classes].sigmoid(), answer[:, classes : classes + SIDES]
    width = answer.shape[-1]
    scores = scores * (F.max_pool2d(scores, 3, stride=1, padding=1) == scores)
    found = []
    for score, sides in zip(scores, reach, strict=True):
        best, places = score.flatten().topk(min(most, score.numel()))
        best, places = best[best >= threshold], places[best >= threshold]
        kind, place = places // score[0].numel(), places % score[0].numel()
        middle = torch.stack(((place % width + 0.5) * cell, (place // width + 0.5) * cell), 1)
        left_top, right_bottom = sides.flatten(1)[:, place].T.split(2, 1)
        found.append(Found(torch.cat((middle - left_top, middle + right_bottom), 1), best, kind))
    return found
