"""How good a vision network is on labelled scenes, clean and in the rain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.metrics.detection import Boxes, average_precision, match
from deploy_robust.metrics.segmentation import Counts, count, iou, mean_iou
from deploy_robust.models.vision.centres import centres
from deploy_robust.restorer import pad_to_rule
from deploy_robust.training.crops import to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.data.pairs import Pair
    from deploy_robust.models.vision.network import VisionNetwork


@dataclass(frozen=True, slots=True)
class VisionScore:
    """Figures over held-out scenes taken together.

    Attributes:
        clean: On the clean images, by name: ``miou`` and one IoU for each class, or ``ap`` and ``ap50``.
        rainy: On the rainy images, likewise.
    """

    clean: dict[str, float]
    rainy: dict[str, float]


def validate_vision(network: VisionNetwork, pairs: Sequence[Pair], device: str = "cpu") -> VisionScore:
    """Scores a network in evaluation mode on whole images, one at a time; its mode is restored."""
    mode = network.training
    network.eval()
    score = _segmentation if network.task == "segmentation" else _detection
    with torch.inference_mode():
        clean = score(network, [(pair, pair.clean) for pair in pairs if pair.clean is not None], device)
        rainy = score(network, [(pair, pair.rainy) for pair in pairs], device)
    network.train(mode)
    return VisionScore(clean, rainy)


def _answer(network: VisionNetwork, image: NDArray[np.uint8], device: str) -> Tensor:
    return network(pad_to_rule(to_tensor(image[None]).to(device), network.size_rule)).cpu()


def _segmentation(
    network: VisionNetwork, images: Sequence[tuple[Pair, NDArray[np.uint8]]], device: str
) -> dict[str, float]:
    counts = []
    for pair, image in images:
        height, width = pair.size
        assert pair.labels.classes is not None  # noqa: S101  (a pool's pairs have labels)
        found = _answer(network, image, device)[0, :, :height, :width].argmax(0).numpy()
        counts.append(count(found, pair.labels.classes, len(network.classes)))
    total = Counts(*(sum(parts) for parts in zip(*counts, strict=True)))
    by_class = dict(zip(network.classes, map(float, iou(total)), strict=True))
    return {"miou": mean_iou(total), **by_class}


def _detection(
    network: VisionNetwork, images: Sequence[tuple[Pair, NDArray[np.uint8]]], device: str
) -> dict[str, float]:
    (name,) = network.classes
    matches = []
    for pair, image in images:
        (found,) = centres(_answer(network, image, device), len(network.classes), threshold=0.05, most=100)
        right = [(box.x0, box.y0, box.x1, box.y1) for box in pair.labels.boxes if box.label == name]
        matches.append(match(Boxes.of(found.corners.numpy(), found.scores.tolist()), Boxes.of(right)))
    values = average_precision(matches)
    return {"ap": float(values.mean()), "ap50": float(values[0])}
