"""The canonical dump: what "the same bytes" of two runs means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from deploy_robust.gate.records import digest_of_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.gate.records import Measurement


class Dumpable(Protocol):
    """What a dump reads of a store."""

    def measurements(self) -> Iterator[Measurement]:
        """All measurements, in the order of execution."""
        ...

    def image_names(self) -> list[str]:
        """SHA-256 of every image that the run holds, in order."""
        ...

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8 by its SHA-256."""
        ...


def canonical_dump(run: Dumpable) -> str:
    """Every measurement and the digest of every 8-bit image, one JSON line each; no time and no name of a machine.

    Two runs are the same when their dumps are. Numbers are written in hexadecimal, so that no bit is rounded away, and
    digests are computed again from the pixels.
    """
    entries = [_plain(measurement) for measurement in run.measurements()]
    entries += [{"image": name, "pixels": digest_of_image(run.image(name))} for name in run.image_names()]
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)


def _plain(m: Measurement) -> dict[str, Any]:
    plain = {
        "case": [m.case.pair, m.case.attack, m.case.level],
        "scene": m.scene,
        "role": m.role,
        "delivery": m.delivery,
        "values": {name: float(value).hex() for name, value in m.values.items()},
        "defect": None if m.defect is None else [m.defect.kind, m.defect.detail],
        "input": m.input_image,
        "output": m.output_image,
    }
    return {**plain, "evidence": m.evidence} if m.evidence else plain
