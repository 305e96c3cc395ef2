"""What downstream networks make of an image: figures of that image, and evidence for figures over many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.downstream.adapter import IGNORE
from deploy_robust.downstream.palette import painted
from deploy_robust.errors import EngineDefect, RunError, UsageError
from deploy_robust.gate.evidence import DETECTION, SEGMENTATION, counts_of, detected, image_figures
from deploy_robust.gate.images import keep_array
from deploy_robust.metrics.segmentation import IGNORED, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.data.pairs import Labels
    from deploy_robust.downstream.viewer import Viewer

TRUTH = "truth"
"""Before a task or a metric: what the network makes of the ground truth image."""

_MOST = 100
"""Detections of a class that are kept of an image; AP counts no more."""


class Downstream:
    """The downstream networks of a run, at most one of each task.

    Args:
        viewers: The networks.

    Raises:
        UsageError: Two of them have the same task.
    """

    def __init__(self, viewers: Sequence[Viewer] = ()) -> None:
        self.viewers = {viewer.adapter.task: viewer for viewer in viewers}
        if len(self.viewers) < len(viewers):
            raise UsageError(
                "two downstream networks have the same task: check with one for each, in runs of their own"
            )

    def look(
        self, image: Tensor, labels: Labels, images: dict[str, NDArray[np.uint8]] | None = None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Figures and evidence of one image.

        Args:
            image: (1, 3, H, W) float32 in [0, 1].
            labels: Its ground truth.
            images: Where pictures of what was predicted are kept; None keeps none.

        Returns:
            Metric to value, without those that are not defined on this image; task to evidence.

        Raises:
            RunError: A downstream network failed: that is not the engine's doing.
        """
        evidence: dict[str, Any] = {}
        try:
            if (viewer := self.viewers.get("segmentation")) is not None:
                evidence[SEGMENTATION] = _segmented(viewer, image, labels, images)
            if (viewer := self.viewers.get("detection")) is not None:
                evidence[DETECTION] = _detected(viewer, image, labels)
        except EngineDefect as defect:
            raise RunError(
                f"the downstream network failed ({defect.kind}: {defect}): correct its description, or leave it out"
            ) from defect
        return image_figures(evidence), evidence

    def look_at_truth(
        self, image: Tensor, labels: Labels, images: dict[str, NDArray[np.uint8]]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The same of the ground truth image, under names of their own, with a picture of the right labels."""
        values, evidence = self.look(image, labels, images)
        if SEGMENTATION in evidence and labels.classes is not None:
            right = keep_array(painted(labels.classes, labels.class_names), images)
            evidence[SEGMENTATION]["right_picture"] = right
        return (
            {f"{TRUTH}_{name}": value for name, value in values.items()},
            {f"{TRUTH}-{task}": found for task, found in evidence.items()},
        )


def _segmented(
    viewer: Viewer, image: Tensor, labels: Labels, images: dict[str, NDArray[np.uint8]] | None
) -> dict[str, Any]:
    if labels.classes is None:
        raise UsageError("a segmentation is measured on images with labelled pixels, and one has none")
    names = labels.class_names
    place = {name: index for index, name in enumerate(names)}
    translated = np.array([place.get(name, len(names)) for name in viewer.adapter.named])
    found = translated[viewer.classes(image).numpy()]
    # What the network has no name for it cannot find: such pixels are ignored.
    unknown = [index for name, index in place.items() if name not in viewer.adapter.named]
    right = np.where(np.isin(labels.classes, unknown), IGNORED, labels.classes) if unknown else labels.classes
    evidence = counts_of(count(found, right, len(names)))
    if images is not None:
        evidence["picture"] = keep_array(painted(found, names), images)
    return evidence


def _detected(viewer: Viewer, image: Tensor, labels: Labels) -> dict[str, Any]:
    found = viewer.objects(image)
    named = [viewer.adapter.named[kind] for kind in found.classes.tolist()]
    known = {*labels.class_names, *(box.label for box in labels.boxes)}
    evidence = {}
    for name in dict.fromkeys(viewer.adapter.named):
        if name == IGNORE or name not in known:
            continue
        rows = [row for row, kind in enumerate(named) if kind == name][:_MOST]
        evidence[name] = detected(
            found.corners[rows].tolist(),
            found.scores[rows].tolist(),
            [(box.x0, box.y0, box.x1, box.y1) for box in labels.boxes if box.label == name],
            [(box.x0, box.y0, box.x1, box.y1) for box in labels.boxes if box.label == f"{name} group"],
        )
    return evidence
