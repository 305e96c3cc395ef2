"""Optimisation profiles: which shapes a plan takes, and for which it was tuned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Shape = tuple[int, ...]
_FORM = "write it as 1x3x64x64,1x3x256x256,8x3x512x512"


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that one profile takes.

    Attributes:
        least: Smallest value of each dimension.
        best: The shape for which TensorRT chooses its kernels.
        most: Greatest value of each dimension; memory is reserved for it.
    """

    least: Shape
    best: Shape
    most: Shape

    def __post_init__(self) -> None:
        if not len(self.least) == len(self.best) == len(self.most):
            raise UsageError(f"the three shapes of a profile need as many dimensions (got {self}): {_FORM}")
        if not all(1 <= a <= b <= c for a, b, c in zip(self.least, self.best, self.most, strict=True)):
            raise UsageError(f"a profile must rise from its least to its most shape (got {self}): {_FORM}")

    @classmethod
    def parse(cls, text: str) -> Profile:
        """The profile of ``least,best,most``; one shape alone stands for all three.

        Raises:
            UsageError: The text has another form.
        """
        try:
            shapes = [tuple(int(side) for side in part.lower().split("x")) for part in text.split(",")]
        except ValueError as error:
            raise UsageError(f"a profile is three shapes (got {text!r}): {_FORM}") from error
        if len(shapes) == 1:
            shapes *= 3
        if len(shapes) != 3:
            raise UsageError(f"a profile is three shapes (got {text!r}): {_FORM}")
        return cls(*shapes)

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a shape lies inside."""
        return len(shape) == len(self.least) and all(
            a <= n <= c for a, n, c in zip(self.least, shape, self.most, strict=True)
        )

    def distance(self, shape: Sequence[int]) -> int:
        """How far a shape is from the one that the profile was tuned for, in elements."""
        return abs(_elements(shape) - _elements(self.best))

    @property
    def static(self) -> bool:
        """Whether it takes one shape only."""
        return self.least == self.most

    def dims(self) -> Iterator[int | None]:
        """Each dimension, None where the profile leaves it open."""
        for a, c in zip(self.least, self.most, strict=True):
            yield a if a == c else None

    def __str__(self) -> str:
        return ",".join("x".join(map(str, shape)) for shape in (self.least, self.best, self.most))


def nearest(profiles: Sequence[Profile], shape: Sequence[int]) -> int:
    """Index of the profile that takes a shape and was tuned for the nearest one.

    Raises:
        UsageError: None takes it.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.takes(shape)]
    if not fitting:
        ranges = "; ".join(f"{'x'.join(map(str, p.least))} to {'x'.join(map(str, p.most))}" for p in profiles)
        raise UsageError(
            f"the plan takes shapes from {ranges} and was given {'x'.join(map(str, shape))}: use images and batches "
            f"inside (--crop), or build the plan again with a profile that holds them"
        )
    return min(fitting, key=lambda index: profiles[index].distance(shape))


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
