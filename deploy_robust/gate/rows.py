"""How measurements and images lie in the store: as rows, and as PNG files."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Le, Len
from PIL import Image

from deploy_robust.boundary import Figure, Holding, MalformedError, parse_json, require_limits, validated
from deploy_robust.gate.evidence import DETECTION, PICTURES, SEGMENTATION
from deploy_robust.gate.records import Case, Defect, Delivery, Measurement, digest_of_image
from deploy_robust.gate.run_spec import Name

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = "pair, attack, level, scene, role, delivery, metrics, defect, defect_detail, input_image, output_image"
"""Columns of a measurement, in the order in which rows are written and read."""


_EVIDENCE = "evidence:"
"""Key of a measurement's evidence among its metrics; no metric can have that name."""


_COUNTS = list[Annotated[int, Ge(0)]]
_CORNERS = Annotated[list[float], Len(4, 4)]
_FOUND = Annotated[list[float], Len(5, 5)]
EVIDENCE = Annotated[
    Mapping[str, Any],
    Holding(
        {
            SEGMENTATION: Annotated[
                Mapping[str, Any],
                Holding(dict.fromkeys(PICTURES, str), hits=_COUNTS, truth=_COUNTS, found=_COUNTS),
            ],
            DETECTION: dict[
                str,
                Annotated[
                    Mapping[str, Any], Holding(found=list[_FOUND], objects=list[_CORNERS], crowds=list[_CORNERS])
                ],
            ],
        }
    ),
]
"""Evidence of downstream tasks, see `gate.evidence`."""


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


@dataclass(frozen=True, slots=True)
class StoredRow:
    """The values of `COLUMNS` with their metrics as parsed, and the evidence apart from them."""

    pair: Name
    attack: Name
    level: Annotated[float, Ge(0), Le(255)]
    scene: Name
    role: Name
    delivery: Delivery
    metrics: Mapping[str, Figure]
    defect: Name | None
    defect_detail: str | None
    input_image: str
    output_image: str
    evidence: EVIDENCE

    def measurement(self) -> Measurement:
        """What was measured."""
        return Measurement(
            case=Case(self.pair, self.attack, self.level),
            scene=self.scene,
            role=self.role,
            delivery=self.delivery,
            values=self.metrics,
            defect=None if self.defect is None else Defect(self.defect, self.defect_detail or ""),
            input_image=self.input_image,
            output_image=self.output_image,
            evidence=self.evidence,
        )


def from_row(row: tuple[Any, ...]) -> Measurement:
    """The reverse: a measurement from the values of `COLUMNS`.

    Raises:
        MalformedError: They are not those of a measurement.
    """
    data = dict(zip(COLUMNS.split(", "), row, strict=True))
    text = data["metrics"]
    metrics = parse_json(text) if isinstance(text, str) else text
    evidence = metrics.pop(_EVIDENCE, {}) if isinstance(metrics, dict) else {}
    data |= {"metrics": metrics, "evidence": evidence}
    require_limits(data)
    return validated(StoredRow, data).measurement()


def checked(png: Any, sha256: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) uint8 of a PNG that is kept under the hash of its content.

    Raises:
        MalformedError: It is no PNG, or another image.
    """
    try:
        with Image.open(io.BytesIO(png)) as opened:
            image = np.asarray(opened).copy()
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise MalformedError(f"is damaged (the image {sha256[:12]} cannot be read: {type(error).__name__})") from error
    if image.dtype != np.uint8 or digest_of_image(image) != sha256:
        raise MalformedError(f"is damaged (the image {sha256[:12]} has other pixels than its name says)")
    return image
