"""What an engine takes and gives: range, layout, colour order, type and sizes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from deploy_robust.boundary import MalformedError, validated
from deploy_robust.errors import ArtefactError, UsageError

Layout = Literal["NCHW", "NHWC"]
Colour = Literal["RGB", "BGR"]
ElementType = Literal["float32", "float16", "uint8"]

SMALLEST_SIDE = 32
"""Images with a side below this many pixels are refused everywhere."""

LARGEST_SIDE = 65_536
"""Sides above this many pixels are refused: what asks for them is damaged."""

LARGEST_MULTIPLE = 4096
"""Likewise sides that must be multiples of more pixels than this: the smallest image is padded to one."""

LARGEST_BATCH = 4096
LARGEST_INPUT = 2**28
"""Likewise batches of more images, or of more pixels in all: 3 GB in float32."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which heights and widths a network accepts as they are.

    Attributes:
        multiple: Height and width are multiples of this many pixels.
        fixed: The only (height, width) accepted; None where sizes are dynamic.
    """

    multiple: int = 1
    fixed: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        limits = (("multiple", (self.multiple,), LARGEST_MULTIPLE), ("fixed", self.fixed or (), LARGEST_SIDE))
        for name, sides, most in limits:
            if wrong := [side for side in sides if not 1 <= side <= most]:
                raise UsageError(f"size.{name} must lie between 1 and {most} pixels (got {wrong[0]})")

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The smallest accepted size that holds (height, width).

        Raises:
            UsageError: The size is fixed and smaller than the image.
        """
        if self.fixed is not None:
            if height > self.fixed[0] or width > self.fixed[1]:
                raise UsageError(
                    f"the engine takes {self.fixed[0]}x{self.fixed[1]} only and the image is {height}x{width}: "
                    f"crop it (--crop {min(self.fixed)}) or export the engine at that size"
                )
            return self.fixed
        m = self.multiple
        return -(-height // m) * m, -(-width // m) * m

    def __str__(self) -> str:
        if self.fixed is not None:
            return f"{self.fixed[0]}x{self.fixed[1]} only"
        return "any" if self.multiple == 1 else f"multiples of {self.multiple}"


@dataclass(frozen=True, slots=True)
class IODescription:
    """How RGB in [0, 1], NCHW float32, is turned into what the engine takes, and its answer back.

    ``native = (x - mean) / std * (high - low) + low`` for each channel, then the colour order, the layout and the type;
    the output is read the other way round, with the output's own range. Images in [0, 1] with mean 0 and std 1 pass
    unchanged.

    Attributes:
        range: (low, high) of the input: (0, 1), (0, 255) or (-1, 1).
        output_range: The same for the output; None means as the input.
        layout: Order of axes, input and output.
        colour: Order of channels, input and output.
        dtype: Element type of the input; uint8 input is rounded, and its range is 0 to 255.
        mean: Per channel in RGB order, subtracted in [0, 1] units; applies to the input only.
        std: Per channel in RGB order, divided by in [0, 1] units; applies to the input only.
        size: Which heights and widths pass without padding.
        batch: The only batch size accepted; None where it is dynamic.
    """

    range: tuple[float, float] = (0.0, 1.0)
    output_range: tuple[float, float] | None = None
    layout: Layout = "NCHW"
    colour: Colour = "RGB"
    dtype: ElementType = "float32"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    size: SizeRule = field(default_factory=SizeRule)
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("layout", Layout), ("colour", Colour), ("dtype", ElementType)):
            if getattr(self, name) not in get_args(allowed):
                raise UsageError(f"{name} must be one of {', '.join(get_args(allowed))} (got {getattr(self, name)!r})")
        for name in ("range", "output_range", "mean", "std"):
            if not all(math.isfinite(number) for number in getattr(self, name) or ()):
                raise UsageError(f"{name} must hold finite numbers (got {getattr(self, name)})")
        for bounds in (self.range, self.output_range):
            if bounds is not None and not bounds[0] < bounds[1]:
                raise UsageError(f"a range must rise, like 0,255 (got {bounds[0]:g},{bounds[1]:g})")
        if min(self.std) <= 0:
            raise UsageError(f"std must be positive (got {self.std})")
        if self.dtype == "uint8" and self.range != (0.0, 255.0):
            raise UsageError(f"uint8 input means range 0,255 (got {self.range[0]:g},{self.range[1]:g})")
        if self.batch is not None and not 1 <= self.batch <= LARGEST_BATCH:
            raise UsageError(f"batch must lie between 1 and {LARGEST_BATCH} images (got {self.batch})")
        if self.size.fixed is not None and (self.batch or 1) * math.prod(self.size.fixed) > LARGEST_INPUT:
            raise UsageError(
                f"{self.batch or 1} images of {self.size} are more than {LARGEST_INPUT:,} pixels: "
                "export the engine for smaller images or a smaller batch"
            )

    @property
    def native_output_range(self) -> tuple[float, float]:
        """(low, high) of the output."""
        return self.range if self.output_range is None else self.output_range

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any, where: str = "the I/O description") -> IODescription:
        """The reverse of `to_dict`.

        Raises:
            ArtefactError: A key is unknown or a value has the wrong form.
        """
        try:
            return validated(cls, data)
        except MalformedError as error:
            raise ArtefactError(f"{where} {error}") from error
