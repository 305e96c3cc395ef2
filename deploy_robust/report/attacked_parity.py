"""What parity came to on attacked images: one line, also for precisions that no requirement bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy_robust.gate.quantities import ATTACKED_CONVERSION, ATTACKED_FIDELITY, quantity
from deploy_robust.report.wording import epsilon, number, with_unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.gate.table import Table

_FIGURES = {ATTACKED_CONVERSION: ("source", "conversion"), ATTACKED_FIDELITY: ("own graph", "fidelity")}


def attacked_parity(table: Table) -> Iterator[str]:
    """A note with the lowest figure of each kind over all attacks and epsilons, and beside it the lowest clean one."""
    said = []
    for attacked, (other, clean) in _FIGURES.items():
        points = [
            (p.value, p.case) for level in table.levels() for p in quantity(attacked).points(table, level, ()).values()
        ]
        before = [p.value for p in quantity(clean).points(table, 0.0, ()).values()]
        if not points or not before:
            continue
        value, case = min(points)
        where = f" (clean {_decibels(min(before))}; {case.attack} at {epsilon(case.level)})"
        said.append(f"{_decibels(value)} to its {other}{where}")
    if said:
        yield f"parity on attacked images, the worst of all: {', '.join(said)}"


def _decibels(value: float) -> str:
    return "identical" if math.isinf(value) else with_unit(number(value, 1), "dB")
