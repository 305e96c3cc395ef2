"""The rainy images of an export: some set the ranges of an integer graph, others verify what was made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.artefact.manifest import CalibrationRecord
from deploy_robust.errors import ImageError
from deploy_robust.gate.parity import LEAST_IMAGES
from deploy_robust.restorer import pad_to_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.artefact.exporter import CalibrationMethod
    from deploy_robust.artefact.io_description import SizeRule
    from deploy_robust.data.pairs import Pair, PairSource

EMBEDDED_SIZE = (192, 256)
"""(height, width) at which embedded sources draw for calibration and parity."""

_SMALL, _LARGE = (97, 61), (321, 481)
_SIZE_OF_IMAGE = (0, 1, 2, 0, 1, 0, 1, 0)
"""Which of the three parity sizes the n-th image is cut to; one large image is enough, the small ones cost little."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One image that artefacts are verified with.

    Attributes:
        rainy: (1, 3, H, W) float32 in [0, 1].
        truth: The same without rain; None where the source has no ground truth.
    """

    rainy: Tensor
    truth: Tensor | None


@dataclass(frozen=True, slots=True)
class Images:
    """Rainy images: some to calibrate on, others to verify with."""

    identity: Mapping[str, str | int | float | bool | None]
    calibration: tuple[Pair, ...]
    verification: tuple[Pair, ...]

    @classmethod
    def read(cls, request: PairsRequest, count: int) -> Images:
        """Takes `count` images to calibrate on, and the last eight of the source to verify with.

        Raises:
            InputError: There are no usable images.
        """
        if request.limit is None:
            request = replace(request, limit=count + LEAST_IMAGES)
        if request.size == PairsRequest().size:
            request = replace(request, size=EMBEDDED_SIZE)
        source: PairSource = open_pairs(request)
        total = len(source)
        apart = total > LEAST_IMAGES
        last = range(max(0, total - LEAST_IMAGES), total)
        first = range(min(count, total - LEAST_IMAGES if apart else total))
        return cls(source.identity, tuple(source[i] for i in first), tuple(source[i] for i in last))

    def record(self, method: CalibrationMethod) -> CalibrationRecord:
        """What the manifest says of the calibration."""
        digest = hashlib.sha256()
        for pair in self.calibration:
            digest.update(f"{pair.id}\x1f{pair.rainy.shape}\x1e".encode())
            digest.update(pair.rainy.tobytes())
        return CalibrationRecord(dict(self.identity), len(self.calibration), method, digest.hexdigest())

    def padded(self, rule: SizeRule) -> Iterator[NDArray[np.uint8]]:
        """The calibration images, (H, W, 3) uint8, padded to sizes that a network accepts, as an engine pads them."""
        for pair in self.calibration:
            x = pad_to_rule(_tensor(pair.rainy), rule)
            yield (x[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def crops(self) -> Iterator[Crop]:
        """Centre crops of the verification images, of three sizes in turn."""
        for index, pair in enumerate(self.verification):
            height, width = parity_sizes(pair.size)[_SIZE_OF_IMAGE[index]]
            top, left = (pair.size[0] - height) // 2, (pair.size[1] - width) // 2
            window = slice(top, top + height), slice(left, left + width)
            truth = None if pair.clean is None else _tensor(pair.clean[window])
            yield Crop(_tensor(pair.rainy[window]), truth)


def _tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) 8-bit RGB to (1, 3, H, W) float32 in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None])).float() / 255


def parity_sizes(image: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Three different (height, width) that an image can be cut to, most of them odd, so that size rules break.

    Raises:
        ImageError: The image is too small for three.
    """
    if min(image) < SMALLEST_SIDE + 4:
        raise ImageError(
            f"parity is measured at three sizes, and a calibration image has {image[0]}x{image[1]} pixels: "
            f"use images of at least {SMALLEST_SIDE + 4} pixels a side"
        )
    large = min(_LARGE[0], image[0]), min(_LARGE[1], image[1])
    small = tuple(max(SMALLEST_SIDE + 1, min(s, side * 3 // 4)) for s, side in zip(_SMALL, image, strict=True))
    middle = tuple((a + b) // 2 for a, b in zip(small, large, strict=True))
    return (small[0], small[1]), (middle[0], middle[1]), large
