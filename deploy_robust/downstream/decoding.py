"""From the tensors of a downstream network to a label map or to boxes, in pixels of what it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import EngineDefect
from deploy_robust.models.vision.centres import Found, centres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from deploy_robust.downstream.adapter import Adapter, Form, Reading

MOST = 300
"""Detections of an image that are kept at most; COCO counts the first 100 of a class."""


def scores_of(answers: Mapping[str, Tensor], adapter: Adapter) -> Tensor:
    """Class scores (1, K, h, w) float32 of a segmentation; label maps become scores of 0 and 1.

    Raises:
        EngineDefect: The answer has another shape, or names a class that there is not.
    """
    answer = _one(answers, adapter.reading)
    count = len(adapter.classes)
    if adapter.reading.form == "scores":
        if answer.ndim != 4 or answer.shape[1] != count:
            raise EngineDefect("shape", f"scores of {count} classes are (N, {count}, h, w), got {tuple(answer.shape)}")
        return answer.to(torch.float32)
    if answer.ndim == 4 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if answer.ndim != 3:
        raise EngineDefect("shape", f"label maps are (N, h, w) or (N, 1, h, w), got {tuple(answer.shape)}")
    labels = answer.to(torch.int64) - adapter.reading.first_class
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise EngineDefect(
            "shape", f"labels of {count} classes run from {adapter.reading.first_class} on, and {answer.max()} came"
        )
    return torch.nn.functional.one_hot(labels, count).permute(0, 3, 1, 2).to(torch.float32)


def boxes_of(answers: Mapping[str, Tensor], adapter: Adapter, size: tuple[int, int]) -> Found:
    """Boxes of the one image that was given, as corners in its pixels, the surest first.

    Args:
        answers: Outputs by name.
        adapter: How they are read.
        size: (height, width) of what the network was given.

    Raises:
        EngineDefect: The answer has another shape.
    """
    reading = adapter.reading
    found = _DECODERS[reading.form](answers, adapter)
    corners = found.corners
    if reading.form in ("rows", "yolo", "parts"):
        if reading.boxes != "xyxy":
            start, extent = corners[:, :2], corners[:, 2:]
            start = start - extent / 2 if reading.boxes == "cxcywh" else start
            corners = torch.cat((start, start + extent), 1)
        if reading.normalised:
            corners = corners * corners.new_tensor([size[1], size[0], size[1], size[0]])
    kept = (found.scores >= reading.threshold) & (found.classes >= 0) & (found.classes < len(adapter.classes))
    found = Found(corners[kept], found.scores[kept], found.classes[kept])
    if reading.form == "yolo":
        from torchvision.ops import batched_nms

        chosen = batched_nms(found.corners, found.scores, found.classes, reading.overlap)
    else:
        chosen = found.scores.argsort(descending=True, stable=True)
    return Found(*(part[chosen[:MOST]] for part in found))


def _rows(answers: Mapping[str, Tensor], adapter: Adapter) -> Found:
    answer = _one(answers, adapter.reading)
    if answer.ndim != 3 or answer.shape[2] != 6:
        raise EngineDefect("shape", f"rows of boxes are (N, M, 6), got {tuple(answer.shape)}")
    row = answer[0].to(torch.float32)
    return Found(row[:, :4], row[:, 4], row[:, 5].round().to(torch.int64) - adapter.reading.first_class)


def _yolo(answers: Mapping[str, Tensor], adapter: Adapter) -> Found:
    answer = _one(answers, adapter.reading)
    width = 4 + len(adapter.classes)
    if answer.ndim != 3 or answer.shape[1] != width:
        raise EngineDefect(
            "shape", f"boxes of {len(adapter.classes)} classes are (N, {width}, M), got {tuple(answer.shape)}"
        )
    boxes, scores = answer[0, :4].to(torch.float32), answer[0, 4:].to(torch.float32)
    best, kind = scores.max(0)
    return Found(boxes.T, best, kind)


def _parts(answers: Mapping[str, Tensor], adapter: Adapter) -> Found:
    order = list(answers)
    names = [adapter.reading.names.get(part) for part in ("boxes", "scores", "classes")]
    if missing := [name for name in names if name is not None and name not in answers]:
        raise EngineDefect("shape", f"there is no output {missing[0]!r}: the graph has {', '.join(order)}")
    if len(order) < len(names):
        raise EngineDefect("shape", f"boxes, scores and classes are three outputs, the graph has {', '.join(order)}")
    boxes, scores, kinds = (answers[name or order[place]] for place, name in enumerate(names))
    boxes, scores, kinds = boxes.reshape(-1, 4), scores.reshape(-1), kinds.reshape(-1)
    if not len(boxes) == len(scores) == len(kinds):
        raise EngineDefect("shape", f"{len(boxes)} boxes came with {len(scores)} scores and {len(kinds)} classes")
    return Found(boxes.to(torch.float32), scores.to(torch.float32), kinds.to(torch.int64) - adapter.reading.first_class)


def _centres(answers: Mapping[str, Tensor], adapter: Adapter) -> Found:
    answer = _one(answers, adapter.reading)
    count = len(adapter.classes)
    if answer.ndim != 4 or answer.shape[1] != count + 4:
        raise EngineDefect("shape", f"centres are (N, {count + 4}, h, w), got {tuple(answer.shape)}")
    (found,) = centres(answer.to(torch.float32), count, threshold=adapter.reading.threshold, most=MOST)
    return found


_DECODERS: Mapping[Form, Callable[[Mapping[str, Tensor], Adapter], Found]] = {
    "rows": _rows,
    "yolo": _yolo,
    "parts": _parts,
    "centres": _centres,
}


def _one(answers: Mapping[str, Tensor], reading: Reading) -> Tensor:
    name = reading.names.get("answer", next(iter(answers)))
    if name not in answers:
        raise EngineDefect("shape", f"there is no output {name!r}: the graph has {', '.join(answers)}")
    return answers[name]
