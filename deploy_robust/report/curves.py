"""Metrics over epsilon, from the table of measurements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import numpy as np

from deploy_robust.gate.quantities import ENGINE, HIGHEST_PSNR, SOURCE, TRANSFERRED
from deploy_robust.gate.records import CLEAN, INPUT, Delivery
from deploy_robust.metrics.mean_adversarial import mean_adversarial
from deploy_robust.report.records import Curve, Spread, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy_robust.gate.table import Table

METRICS = ("psnr", "ssim", "drop", "drift")
"""Metrics that a report draws; ``drop`` is clean PSNR minus attacked PSNR."""

DELIVERIES: tuple[Delivery, ...] = get_args(Delivery)


def value_of(
    table: Table, metric: str, role: str, pair: str, attack: str, level: float, delivery: Delivery = "8bit"
) -> float | None:
    """One number for a picture or a table; None where it was not measured, inf for identical images.

    A clean image reaches an engine as it is, so that both deliveries share its measurement.
    """
    if attack == CLEAN or level == 0:
        attack, level, delivery = CLEAN, 0.0, "8bit"
    if metric != "drop":
        return table.get(metric, role, pair, attack, level, delivery)
    clean = table.get("psnr", role, pair)
    attacked = table.get("psnr", role, pair, attack, level, delivery)
    if clean is None or attacked is None:
        return None
    return finite(clean) - finite(attacked)


def finite(value: float) -> float:
    """The value, counted at `HIGHEST_PSNR` where it is infinite."""
    return value if math.isfinite(value) else HIGHEST_PSNR


def spread(level: float, values: Sequence[float]) -> Spread:
    """Describes the values of one epsilon; at least one is needed."""
    numbers = np.array([finite(value) for value in values], dtype=np.float64)
    q10, q25, median, q75, q90 = (float(q) for q in np.quantile(numbers, [0.1, 0.25, 0.5, 0.75, 0.9]))
    return Spread(
        level=level,
        count=len(values),
        identical=sum(not math.isfinite(value) for value in values),
        mean=float(numbers.mean()),
        minimum=float(numbers.min()),
        q10=q10,
        q25=q25,
        median=median,
        q75=q75,
        q90=q90,
        maximum=float(numbers.max()),
    )


def rain(table: Table) -> dict[str, Spread]:
    """What the rainy inputs themselves measure."""
    found = {}
    for metric in ("psnr", "ssim"):
        values = [v for pair in table.scenes if (v := table.get(metric, INPUT, pair)) is not None]
        if values:
            found[metric] = spread(0.0, values)
    return found


def curves(table: Table) -> Iterator[Curve]:
    """Every metric of every network under every attack, in the order of the run."""
    levels = table.levels()
    for role in (role for role in table.roles() if role != INPUT):
        for attack in table.attacks():
            for delivery in DELIVERIES:
                for metric in METRICS:
                    curve = _curve(table, role, attack, delivery, metric, levels)
                    if curve is not None:
                        yield curve


def _curve(
    table: Table, role: str, attack: str, delivery: Delivery, metric: str, levels: Sequence[float]
) -> Curve | None:
    found: dict[float, dict[str, float]] = {}
    for level in (0.0, *levels):
        if level == 0 and metric in ("drop", "drift"):
            continue  # both compare with the clean output: zero and infinity say nothing there
        measured = {pair: value_of(table, metric, role, pair, attack, level, delivery) for pair in table.scenes}
        values = {pair: value for pair, value in measured.items() if value is not None}
        if values:
            found[level] = values
    attacked = {level: [finite(v) for v in values.values()] for level, values in found.items() if level}
    if not attacked:
        return None
    images = {
        pair: tuple(finite(values[pair]) if pair in values else None for values in found.values())
        for pair in table.scenes
        if any(pair in values for values in found.values())
    }
    points = tuple(spread(level, list(values.values())) for level, values in found.items())
    return Curve(role, attack, delivery, metric, points, images, mean_adversarial(attacked, list(attacked)))


def transfer(table: Table) -> Iterator[Transfer]:
    """Engine against source under the attack that was crafted on the source."""
    for level in table.levels():
        for pair in table.scenes:
            engine = table.get("psnr", ENGINE, pair, TRANSFERRED, level)
            source = table.get("psnr", SOURCE, pair, TRANSFERRED, level)
            if engine is not None and source is not None:
                yield Transfer(pair, level, finite(engine), finite(source), finite(engine) - finite(source))
