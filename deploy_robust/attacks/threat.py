"""Epsilon in words and numbers, and the camera's rounding to 8 bits."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 255
"""Steps of an 8-bit channel: epsilon n/255 lets every value move by n of them."""


def parse_epsilon(text: str) -> float:
    """Reads ``4/255``, ``0.5/255`` or a decimal between 0 and 1.

    Raises:
        UsageError: The text is no such number, or lies outside (0, 1).
    """
    number, slash, steps = text.partition("/")
    try:
        value = float(Fraction(number.strip()) / Fraction(steps.strip() if slash else "1"))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"epsilon is written n/255, like 4/255 (got {text!r})") from None
    if not 0 < value < 1:
        hint = f"did you mean {text.strip()}/255?" if 1 <= value < LEVELS and not slash else "write it as n/255"
        raise UsageError(f"epsilon must lie between 0 and 1 (got {text!r}): {hint}")
    return value


def levels(eps: float) -> float:
    """Epsilon in steps of 1/255, freed of the rounding of the division: ``levels(4 / 255) == 4``."""
    return round(eps * LEVELS, 9)


def format_epsilon(eps: float) -> str:
    """``n/255`` as people write it; `parse_epsilon` reads it back."""
    return f"{levels(eps):.9g}/{LEVELS}"


def whole_levels(eps: float) -> int:
    """Epsilon in steps of 1/255 for a camera that rounds to 8 bits.

    Raises:
        UsageError: The steps are not whole: after rounding the image would leave the ball, or not use it.
    """
    steps = levels(eps)
    if steps != int(steps) or steps < 1:
        raise UsageError(
            f"an 8-bit camera needs a whole epsilon, like {max(1, round(steps))}/{LEVELS} (got {format_epsilon(eps)}): "
            "fractions of a grey level do not survive rounding"
        )
    return int(steps)


def quantise(x: Tensor) -> Tensor:
    """Rounds images in [0, 1] to 8 bits, as a camera delivers them.

    An adversarial image of an 8-bit image stays inside its ball when epsilon is a whole number of levels.

    Args:
        x: Any shape, floating point, in [0, 1].

    Returns:
        The nearest multiples of 1/255, of the same shape and type.
    """
    return (x * LEVELS).round() / LEVELS
