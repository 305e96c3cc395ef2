"""How measurements and images lie in the store: as rows, and as PNG files."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

from PIL import Image

from deploy_robust.gate.records import Case, Defect, Measurement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.gate.records import Delivery

COLUMNS = "pair, attack, level, scene, role, delivery, metrics, defect, defect_detail, input_image, output_image"
"""Columns of a measurement, in the order in which rows are written and read."""


_EVIDENCE = "evidence:"
"""Key of a measurement's evidence among its metrics; no metric can have that name."""


def to_png(image: NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    # Level 1: attacked images are noise, and more effort buys a few per cent at several times the time.
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def to_row(batch: int, m: Measurement) -> tuple[Any, ...]:
    """A measurement as the values of `COLUMNS`, behind its batch; JSON has no infinity, so it is written as a word."""
    metrics: dict[str, Any] = {name: value if math.isfinite(value) else repr(value) for name, value in m.values.items()}
    if m.evidence:
        metrics[_EVIDENCE] = m.evidence
    return (
        batch,
        m.case.pair,
        m.case.attack,
        m.case.level,
        m.scene,
        m.role,
        m.delivery,
        json.dumps(metrics),
        None if m.defect is None else m.defect.kind,
        None if m.defect is None else m.defect.detail,
        m.input_image,
        m.output_image,
    )


def from_row(row: tuple[Any, ...]) -> Measurement:
    """The reverse: a measurement from the values of `COLUMNS`."""
    pair, attack, level, scene, role, delivery, metrics, defect, detail, input_image, output_image = row
    how: Delivery = delivery
    values = json.loads(metrics)
    evidence = values.pop(_EVIDENCE, {})
    return Measurement(
        case=Case(pair, attack, level),
        scene=scene,
        role=role,
        delivery=how,
        values={name: float(value) for name, value in values.items()},
        defect=None if defect is None else Defect(defect, detail),
        input_image=input_image,
        output_image=output_image,
        evidence=evidence,
    )
