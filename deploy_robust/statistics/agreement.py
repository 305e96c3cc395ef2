"""How far two engines agree on the same images: which ones break, and which ones suffer most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Joint:
    """How often the same image breaks two engines.

    Attributes:
        both: Images that break both.
        only_a: Images that break the first alone.
        only_b: Images that break the second alone.
        neither: Images that break none.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def shared(self) -> float | None:
        """Share of the broken images that break both (Jaccard 1901); None where none broke."""
        either = self.both + self.only_a + self.only_b
        return self.both / either if either else None


def joint(a: Sequence[bool], b: Sequence[bool]) -> Joint:
    """Counts, image by image.

    Raises:
        ValueError: The two are not of one length.
    """
    pairs = list(zip(a, b, strict=True))
    return Joint(
        both=sum(x and y for x, y in pairs),
        only_a=sum(x and not y for x, y in pairs),
        only_b=sum(y and not x for x, y in pairs),
        neither=sum(not (x or y) for x, y in pairs),
    )


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation tau-b (Kendall 1945): of the pairs of images that both order, how many they order alike.

    Args:
        a: One number for each image.
        b: The same of the other engine.

    Returns:
        In [-1, 1]; ties count as in tau-b. None for fewer than two images, or where one of them orders nothing.

    Raises:
        ValueError: The two are not of one length.
    """
    if len(a) != len(b):
        raise ValueError(f"ranks are compared on the same images (got {len(a)} and {len(b)})")
    x, y = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    # Every pair of images stands twice in the sums, which cancels.
    ordered = np.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return None if ordered == 0 else float((x * y).sum() / ordered)
