"""The judge sees requirements and measurements, and nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.gate.betting import judge_by_betting
from deploy_robust.gate.quantities import quantity
from deploy_robust.gate.records import DATASET, Outcome, Requirement, Status, Verdict
from deploy_robust.gate.table import Known, Table
from deploy_robust.statistics.dataset import dataset_interval
from deploy_robust.statistics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy_robust.gate.quantities import Points
    from deploy_robust.gate.records import Case, Measurement
    from deploy_robust.gate.registration import Registration


@dataclass(frozen=True, slots=True)
class Terms:
    """What a verdict rests on besides its requirements.

    Attributes:
        attacks: Names of the attacks over which each image counts at its worst.
        minimum_scenes: Fewer independent scenes than this cannot PASS.
        caps: Reasons known beforehand why the run cannot PASS, one line each.
        registration: What was fixed before the first query, for lines that are decided by betting; None without them.
        known: What is known of the attacks beforehand.
    """

    attacks: tuple[str, ...]
    minimum_scenes: int = 0
    caps: tuple[str, ...] = ()
    registration: Registration | None = None
    known: Known = field(default_factory=Known)


def judge(requirements: Sequence[Requirement], measurements: Iterable[Measurement], terms: Terms) -> Verdict:
    """Judges every requirement at each of its levels.

    One FAIL fails the run. It passes when every requirement does and nothing caps it, and is inconclusive otherwise.
    """
    table = Table(measurements, terms.known)
    outcomes = tuple(
        _judge_one(requirement, level, table, terms)
        for requirement in requirements
        for level in (requirement.levels or (None,))
    )
    caps = list(terms.caps)
    scenes = len(set(table.scenes.values()))
    if scenes < terms.minimum_scenes:
        caps.append(f"{scenes} independent scenes were measured and a PASS needs {terms.minimum_scenes}")
    statuses = {outcome.status for outcome in outcomes}
    if Status.FAIL in statuses:
        status = Status.FAIL
    elif statuses <= {Status.PASS} and outcomes and not caps:
        status = Status.PASS
    else:
        status = Status.INCONCLUSIVE
    return Verdict(status, outcomes, tuple(caps))


def _judge_one(requirement: Requirement, level: float | None, table: Table, terms: Terms) -> Outcome:
    if requirement.by_betting:
        return judge_by_betting(requirement, level, table, terms.attacks, terms.registration)
    what = quantity(requirement.quantity)
    pooled = None
    if requirement.statistic == DATASET and what.pooled is not None:
        pooled = what.pooled(table, level or 0.0, terms.attacks)
        points = {} if pooled is None else pooled.points
    else:
        points = what.points(table, level or 0.0, terms.attacks)
    if not points:
        return Outcome(requirement, level, Status.INCONCLUSIVE, reason="nothing was measured for it")
    if pooled is not None:
        interval = dataset_interval(pooled.figure, [table.scenes[pair] for pair in points], requirement.confidence)
        if math.isnan(interval.mean):
            reason = "it is not defined on these images: there is nothing to find in them"
            return Outcome(requirement, level, Status.INCONCLUSIVE, reason=reason)
    else:
        interval = _statistic(requirement, points, table)
    worst = _worst(requirement, points)
    status, reason = _compare(requirement, interval)
    if status is Status.PASS and len(points) < requirement.minimum_pairs:
        status = Status.INCONCLUSIVE
        reason = f"it holds on {len(points)} pairs and needs {requirement.minimum_pairs}"
    if status is Status.FAIL and not requirement.gates:
        status = Status.INCONCLUSIVE
    return Outcome(
        requirement,
        level,
        status,
        value=interval.mean,
        low=interval.low,
        high=interval.high,
        pairs=len(points),
        scenes=len({table.scenes[pair] for pair in points}),
        worst=worst,
        reason=reason,
    )


def _statistic(requirement: Requirement, points: Points, table: Table) -> Interval:
    """A mean with its interval over scenes; a minimum or maximum over pairs stands for itself.

    Where points are known within rounding only, the interval reaches from what the lowest ends come to, to what the
    highest do.
    """
    seen = _statistic_of(requirement, {pair: point.value for pair, point in points.items()}, table)
    if all(point.ends is None for point in points.values()):
        return seen
    low, high = (
        _statistic_of(requirement, {pair: (p.ends or (p.value, p.value))[end] for pair, p in points.items()}, table)
        for end in (0, 1)
    )
    return Interval(seen.mean, low.low, high.high)


def _statistic_of(requirement: Requirement, values: Mapping[str, float], table: Table) -> Interval:
    if requirement.statistic == "mean":
        by_scene: dict[str, list[float]] = defaultdict(list)
        for pair, value in values.items():
            by_scene[table.scenes[pair]].append(value)
        return mean_interval([sum(group) / len(group) for group in by_scene.values()], requirement.confidence)
    pick = min if requirement.statistic == "min" else max
    value = pick(values.values())
    return Interval(value, value, value)


def _worst(requirement: Requirement, points: Points) -> Case:
    """The case that comes nearest to its bound, or lies furthest beyond it."""

    def margin(value: float) -> float:
        low = float("inf") if requirement.at_least is None else value - requirement.at_least
        high = float("inf") if requirement.at_most is None else requirement.at_most - value
        return min(low, high) if value == value else float("inf")  # an image without a figure of its own

    return min(points.values(), key=lambda point: (margin(point.value), point.case)).case


def _compare(requirement: Requirement, interval: Interval) -> tuple[Status, str]:
    low = float("-inf") if requirement.at_least is None else requirement.at_least
    high = float("inf") if requirement.at_most is None else requirement.at_most
    if low <= interval.low and interval.high <= high:
        return Status.PASS, ""
    spread = requirement.statistic in ("mean", DATASET)
    what = "the whole interval" if spread else f"the {requirement.statistic}imum"
    if interval.high < low:
        return Status.FAIL, f"{what} lies below {low:g}"
    if interval.low > high:
        return Status.FAIL, f"{what} lies above {high:g}"
    if not spread:
        return Status.INCONCLUSIVE, "outputs of 8 bits leave it open: rounding hides on which side of the bound it lies"
    return Status.INCONCLUSIVE, "the interval reaches across the bound: more scenes would narrow it"
