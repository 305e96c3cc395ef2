"""What a quantity is: a name that a policy may bound, and how its numbers are read from measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deploy_robust.gate.records import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.gate.table import Table

ENGINE = "engine"
SOURCE = "source"
LITERAL = "literal"
"""Role of the engine's own graph, read operator by operator: what precision does without the runtime."""

TRANSFERRED = "pgd-lmse"
"""The attack that is crafted on the source and by which source and engine are compared."""

INDEPENDENT_ROWS, REPEATABLE = "independent-rows", "repeatable"
"""Quantities of how an engine is asked; they need an engine that can be asked."""

NOISE = "uniform"
"""The baseline that an attack must beat on its own source."""

DIVERGENCE = ("divergence", "divergence-queries")
"""Attacks on the difference of engine and reference: they tell the two apart, and say nothing about robustness."""

ATTACKED_CONVERSION, ATTACKED_FIDELITY = "attacked-conversion", "attacked-fidelity"
"""Quantities of parity on attacked images."""

HIGHEST_PSNR = 100.0
"""Identical 8-bit images have an infinite PSNR; differences and means count it as this many dB."""


class Point(NamedTuple):
    """A pair's number and the case that it was read from.

    Attributes:
        value: The number.
        case: The case.
        ends: (low, high) of what it may be, where it was measured on outputs that were rounded; None where it is known.
    """

    value: float
    case: Case
    ends: tuple[float, float] | None = None


Points = dict[str, Point]
"""Pair id to its point; a pair without its measurements is missing."""


class Pooled(NamedTuple):
    """A figure over all pairs taken together.

    Attributes:
        points: Pairs that enter, each with its own figure and the case that it was read from.
        figure: Of weights (sets, pairs) in the order of `points`, how often each pair counts, the figure of each set.
    """

    points: Points
    figure: Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number for each pair.

    Attributes:
        name: Name in policies and reports.
        unit: Unit for tables.
        meaning: One line for documentation and reports.
        per_level: Whether it is asked for at an epsilon.
        needs_truth: Whether it needs ground truth.
        points: From the table, at an epsilon in grey levels (0 for clean), under the judged attacks.
        needs: A downstream task or an optional metric that must have been measured; empty for none.
        pooled: The figure over all pairs taken together, likewise; None where the mean over pairs is all there is.
    """

    name: str
    unit: str
    meaning: str
    per_level: bool
    needs_truth: bool
    points: Callable[[Table, float, tuple[str, ...]], Points]
    needs: str = ""
    pooled: Callable[[Table, float, tuple[str, ...]], Pooled | None] | None = None


def weakest(
    table: Table, metric: str, pair: str, level: float, attacks: tuple[str, ...], *, highest: bool = False
) -> Point | None:
    """The engine at its worst over the judged attacks; None unless every one was measured or found a defect.

    An attack that the policy runs on some pairs or at some epsilons counts where it was run.

    Args:
        table: What was measured.
        metric: Its name.
        pair: Of which pair.
        level: Epsilon in grey levels.
        attacks: The judged attacks.
        highest: Whether the worst is the highest value, as of a distance.
    """
    points = []
    defects = {m.case for m in table.defects if m.role == ENGINE}
    for attack in attacks:
        case = Case(pair, attack, level)
        value = table.get(metric, ENGINE, pair, attack, level)
        if value is not None:
            points.append(Point(min(value, HIGHEST_PSNR), case))
        elif case not in defects and attack not in table.known.partial:
            return None
    return (max if highest else min)(points, default=None)
