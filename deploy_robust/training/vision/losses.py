"""Losses of vision networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.metrics.segmentation import IGNORED
from deploy_robust.models.vision.detector import CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deploy_robust.data.pairs import Box

ALPHA = 0.54
"""Half axes of the Gaussian around a centre, as a share of half the box (TTFNet, Liu et al., AAAI 2020)."""


def segmentation_loss(scores: Tensor, classes: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Weighted cross-entropy, and one minus soft Dice averaged over the classes of the batch.

    Dice (Milletari, Navab, Ahmadi, 3DV 2016) counts a class of ten pixels as much as one of ten thousand, as mIoU does.

    Args:
        scores: (N, K, H, W) before the softmax.
        classes: (N, H, W) int64, `IGNORED` where none counts.
        weights: (K,) of the classes in the cross-entropy.

    Returns:
        Terms of the loss by name.
    """
    entropy = F.cross_entropy(scores, classes, weight=weights, ignore_index=IGNORED)
    counted = (classes != IGNORED)[:, None]
    right = F.one_hot(classes.clamp(max=scores.shape[1] - 1), scores.shape[1]).permute(0, 3, 1, 2) * counted
    shares = scores.softmax(1) * counted
    overlap = (shares * right).sum((0, 2, 3))
    total = (shares + right).sum((0, 2, 3))
    there = right.sum((0, 2, 3)) > 0
    dice = 2 * overlap[there] / total[there].clamp(min=1e-6)
    return {"cross-entropy": entropy, "dice": 1 - dice.mean()}


def class_weights(counts: Sequence[int], *, most: float = 8.0) -> list[float]:
    """``1 / sqrt(share of the pixels)``, scaled to a mean of 1 over the pixels and cut at `most`."""
    total = max(1, sum(counts))
    roots = [(max(count, 1) / total) ** 0.5 for count in counts]
    scale = sum(roots)
    return [min(most, 1 / (root * scale)) for root in roots]


def detection_loss(answer: Tensor, boxes: Sequence[Sequence[Box]], names: Sequence[str]) -> dict[str, Tensor]:
    """Focal loss of the centres, and generalised IoU of the boxes around them, weighted by the same Gaussians.

    Args:
        answer: (N, K + 4, h, w) of a `Detector`.
        boxes: Objects of each image; those of other classes than `names` are passed over.
        names: Classes in the order of the channels.

    Returns:
        Terms of the loss by name.
    """
    from torchvision.ops import generalized_box_iou_loss

    scores, reach = answer[:, : len(names)], answer[:, len(names) :]
    heat, sides, weight = targets(boxes, names, (answer.shape[-2], answer.shape[-1]))
    heat, sides, weight = (target.to(answer.device) for target in (heat, sides, weight))
    # CornerNet's focal loss (Law and Deng, ECCV 2018): places near a centre are wrong, though not very.
    peak = heat == 1
    sure, unsure = F.logsigmoid(scores), F.logsigmoid(-scores)
    chance = scores.sigmoid()
    pulled = sure * (1 - chance) ** 2 * peak
    pushed = unsure * chance**2 * (1 - heat) ** 4 * ~peak
    focal = -(pulled.sum() + pushed.sum()) / peak.sum().clamp(min=1)
    place = weight > 0
    if not bool(place.any()):
        return {"centres": focal, "boxes": reach.sum() * 0}
    found, right = (_corners(four.permute(0, 2, 3, 1)[place]) for four in (reach, sides))
    apart = generalized_box_iou_loss(found, right, reduction="none")
    return {"centres": focal, "boxes": (apart * weight[place]).sum() / weight.sum()}


def targets(
    boxes: Sequence[Sequence[Box]], names: Sequence[str], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """What the answer should be.

    Args:
        boxes: Objects of each image.
        names: Classes in the order of the channels.
        size: (h, w) of the answer.

    Returns:
        Gaussians around the centres (N, K, h, w), 1 at the centres; distances to the four sides in pixels
        (N, 4, h, w); how much each place counts for them (N, h, w), the same sum for every object.
    """
    height, width = size
    heat = torch.zeros(len(boxes), len(names), height, width)
    sides = torch.zeros(len(boxes), 4, height, width)
    weight = torch.zeros(len(boxes), height, width)
    rows = (torch.arange(height, dtype=torch.float32)[:, None] + 0.5) * CELL
    columns = (torch.arange(width, dtype=torch.float32)[None] + 0.5) * CELL
    for image, objects in enumerate(boxes):
        known = [box for box in objects if box.label in names]
        # Small objects last, so that they win where boxes overlap.
        for box in sorted(known, key=lambda box: -(box.x1 - box.x0) * (box.y1 - box.y0)):
            middle = int((box.y0 + box.y1) / 2 // CELL), int((box.x0 + box.x1) / 2 // CELL)
            middle = min(middle[0], height - 1), min(middle[1], width - 1)
            spread = [max(ALPHA * side / 6, 0.3 * CELL) for side in (box.y1 - box.y0, box.x1 - box.x0)]
            down, right = rows - rows[middle[0]], columns - columns[:, middle[1]]
            bump = torch.exp(-(down**2) / (2 * spread[0] ** 2) - right**2 / (2 * spread[1] ** 2))
            channel = heat[image, names.index(box.label)]
            torch.maximum(channel, bump, out=channel)
            reach = (columns - box.x0, rows - box.y0, box.x1 - columns, box.y1 - rows)
            to_sides = torch.stack([side.expand(height, width) for side in reach])
            near = (bump > 0.1) & (to_sides.amin(0) > 0)
            sides[image][:, near] = to_sides[:, near]
            weight[image][near] = bump[near] / bump[near].sum()
    return heat, sides, weight


def _corners(reach: Tensor) -> Tensor:
    """Distances (M, 4) to the left, upper, right and lower side as boxes around the origin."""
    return torch.cat((-reach[:, :2], reach[:, 2:]), 1)
