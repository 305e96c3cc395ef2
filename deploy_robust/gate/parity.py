"""Parity: how closely one restorer follows another on clean rainy images.

A damaged engine looks robust, so this comes before every robustness figure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import EngineDefect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

LEAST_IMAGES = 8
"""Images that a parity figure stands on at the least."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What counts as agreement.

    Attributes:
        psnr_db: The worst image reaches at least this PSNR, in dB, peak 1.
        max_abs: No value differs by more, in [0, 1] units; None where single values may.
    """

    psnr_db: float
    max_abs: float | None = None

    def holds(self, figure: ImageParity) -> bool:
        """Whether one image agrees."""
        return figure.psnr_db >= self.psnr_db and (self.max_abs is None or figure.max_abs <= self.max_abs)

    def __str__(self) -> str:
        return f"{self.psnr_db:g} dB" + ("" if self.max_abs is None else f" and {self.max_abs:g}")


FIDELITY: Mapping[str, Bound] = {
    "fp32": Bound(90.0),
    "fp16": Bound(50.0),
    "bf16": Bound(50.0),
    "int8": Bound(25.0),
    "fp8": Bound(25.0),
}
"""Engine against the literal reading of its own graph; a floor for 8 bits, where a flipped code spreads."""

CONVERSION: Mapping[str, Bound] = {
    "fp32": Bound(90.0, 1e-4),
    "fp16": Bound(50.0),
    "bf16": Bound(50.0),
    "int8": Bound(30.0),
    "fp8": Bound(30.0),
}
"""Engine against its fp32 source, by precision."""


@dataclass(frozen=True, slots=True)
class ImageParity:
    """Agreement on one image.

    Attributes:
        size: (height, width) in pixels.
        psnr_db: PSNR in dB, peak 1; infinite where the outputs are identical.
        max_abs: Greatest difference of any value.
    """

    size: tuple[int, int]
    psnr_db: float
    max_abs: float

    @property
    def identical(self) -> bool:
        """Whether the outputs were equal in every bit that matters."""
        return math.isinf(self.psnr_db)

    def __str__(self) -> str:
        height, width = self.size
        return f"{height}x{width}: " + (
            "identical" if self.identical else f"{self.psnr_db:.1f} dB, max {self.max_abs:.1e}"
        )


@dataclass(frozen=True, slots=True)
class RoundedParity:
    """Agreement on one image, of an output that was rounded to 8 bits.

    Attributes:
        seen: Of the rounded output.
        at_worst: Of the unrounded output, if rounding hid as much as it can.
        at_best: Of the unrounded output, if rounding is to blame for all that it can be blamed for.
    """

    seen: ImageParity
    at_worst: ImageParity
    at_best: ImageParity


def parity(
    reference: Callable[[Tensor], Tensor], candidate: Callable[[Tensor], Tensor], images: Iterable[Tensor]
) -> Iterator[ImageParity]:
    """Compares two restorers image by image.

    Args:
        reference: Maps (N, 3, H, W) float32 in [0, 1] to the same shape; a `Restorer`, or a module.
        candidate: The same.
        images: Clean rainy batches (N, 3, H, W) float32 in [0, 1]; sizes may differ from one to the next.

    Yields:
        For each image the PSNR of the whole float32 outputs, unrounded and unclamped, computed in float64.

    Raises:
        EngineDefect: An output is not finite, or has another shape than the reference's.
    """
    for batch in images:
        with torch.no_grad():
            right, found = reference(batch).detach().cpu(), candidate(batch).detach().cpu()
        if right.shape != found.shape:
            raise EngineDefect("shape", f"outputs of {tuple(right.shape)} and {tuple(found.shape)} cannot be compared")
        for who, output in (("reference", right), ("engine", found)):
            if not torch.isfinite(output).all():
                kind = "nan" if torch.isnan(output).any() else "inf"
                raise EngineDefect(kind, f"the {who} answered with {kind} on a clean image of {tuple(batch.shape)}")
        yield from compare(right, found)


def compare(reference: Tensor, output: Tensor) -> Iterator[ImageParity]:
    """Compares two batches of outputs (N, 3, H, W) of one shape, image by image, in float64."""
    for apart in (reference.double() - output.double()).abs().unbind():
        yield ImageParity((apart.shape[-2], apart.shape[-1]), _psnr_db(apart), float(apart.max()))


def _psnr_db(apart: Tensor) -> float:
    error = float(apart.square().mean())
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def compare_rounded(reference: Tensor, output: Tensor) -> Iterator[RoundedParity]:
    """Compares outputs (N, 3, H, W) that were rounded to 8 bits with unrounded ones, image by image, in float64.

    What was rounded to a code lay within half a grey level of it, so that every value bounds how far the unrounded
    output was off: from below by the distance less half a level, from above by the distance plus half a level. Both
    are bounds for certain, and no estimate. Values outside [0, 1] are cut off first on both sides: 8 bits hold none.

    Args:
        reference: Unrounded outputs, float.
        output: Multiples of 1/255.
    """
    half = 0.5 / 255
    clamped = reference.double().clamp(0, 1)
    for apart in (clamped - output.double()).abs().unbind():
        size = (apart.shape[-2], apart.shape[-1])
        least, most = (apart - half).clamp(min=0), apart + half
        yield RoundedParity(*(ImageParity(size, _psnr_db(x), float(x.max())) for x in (apart, most, least)))


def worst(figures: Sequence[ImageParity]) -> ImageParity:
    """The lowest PSNR with the greatest difference of all images, under the size of the image with that PSNR."""
    lowest = min(figures, key=lambda figure: figure.psnr_db)
    return ImageParity(lowest.size, lowest.psnr_db, max(figure.max_abs for figure in figures))
