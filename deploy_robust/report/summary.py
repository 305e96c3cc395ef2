"""A run and its verdict, summarised: the one computation behind every format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from deploy_robust.gate.claims import kept
from deploy_robust.gate.quantities import quantity
from deploy_robust.gate.records import BIAS, CLEAN, FAILURE_RATE, INPUT, REPEAT, Status
from deploy_robust.gate.table import Table
from deploy_robust.report.attacked_parity import attacked_parity
from deploy_robust.report.betting import betting_tests, registered, searches
from deploy_robust.report.cases import attacked_cases, defects, reference
from deploy_robust.report.curves import curves, rain, transfer
from deploy_robust.report.downstream import downstream_report
from deploy_robust.report.explain import Explainer
from deploy_robust.report.float16 import float16_ranges
from deploy_robust.report.headline import because, next_steps
from deploy_robust.report.masking import masking
from deploy_robust.report.records import SCHEMA_VERSION, Explanation, OutcomeRow, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.gate.records import Measurement, Outcome, Verdict

_NEAR = 0.1
"""Grey levels; a bias this near to half a level is taken for truncation."""


class Run(Protocol):
    """What a report reads of a store."""

    @property
    def plan(self) -> dict[str, Any]:
        """What the run was made for."""
        ...

    def measurements(self, batch: int | None = None) -> Iterator[Measurement]:
        """All measurements, in the order of execution."""
        ...

    def png(self, sha256: str) -> bytes:
        """An image by its SHA-256, as the bytes of a PNG file."""
        ...


def summarise(run: Run, verdict: Verdict) -> Summary:
    """Everything that a report says about a run.

    Args:
        run: The store of the run.
        verdict: What its measurements were judged to.
    """
    plan = run.plan
    measurements = list(run.measurements())
    table = Table(measurements)
    explainer = Explainer(plan, measurements)
    outcomes = tuple(_outcome(outcome, explainer.explain(outcome)) for outcome in verdict.outcomes)
    return Summary(
        schema=SCHEMA_VERSION,
        status=verdict.status,
        sentence=verdict.sentence,
        because=because(outcomes),
        next_steps=next_steps(outcomes),
        caps=verdict.caps,
        notes=(
            *(str(note) for note in plan.get("notes", ())),
            *_unrepeatable(measurements),
            *_truncated(measurements),
            *masking(measurements),
            *attacked_parity(table),
            *float16_ranges(measurements, plan),
        ),
        pairs=len(table.scenes),
        scenes=len(set(table.scenes.values())),
        levels=tuple(table.levels()),
        attacks=tuple(table.attacks()),
        roles=tuple(role for role in table.roles() if role != INPUT),
        rain=rain(table),
        outcomes=outcomes,
        curves=tuple(curves(table)),
        transfer=tuple(transfer(table)),
        cases=attacked_cases(table, measurements),
        defects=defects(table),
        registered=registered(plan, measurements),
        tests=betting_tests(verdict.outcomes, measurements),
        searches=tuple(searches(measurements)),
        downstream=downstream_report(plan, measurements),
        provenance={key: _told(key, value) for key, value in plan.items() if key != "notes"},
    )


def _told(key: str, value: Any) -> Any:
    """A plan's entry as reports show it: a registered order, and the names of a graph's nodes, as their number."""
    if key == "registration":
        return {**value, "order": f"{len(value['order'])} units"}
    if key == "literal" and isinstance(value, dict) and "nodes" in value:
        return {**value, "nodes": len(value["nodes"])}
    return value


def _unrepeatable(measurements: list[Measurement]) -> list[str]:
    """A note where the engine gave two answers to one image."""
    apart = [m.values[REPEAT] for m in measurements if REPEAT in m.values and m.case.attack == CLEAN]
    differing = [value for value in apart if value > 0]
    if not differing:
        return []
    return [
        f"engine: not deterministic: asked twice, it answered {len(differing)} of {len(apart)} clean images "
        f"differently, by {max(differing):.2g} at most (peak 1); replays will differ"
    ]


def _truncated(measurements: list[Measurement]) -> list[str]:
    """A note where recorded outputs seem to have been cut down to integers, and not rounded."""
    found = sorted(m.values[BIAS] for m in measurements if BIAS in m.values)
    if not found or abs(found[len(found) // 2] + 0.5) > _NEAR:
        return []
    return [
        "recorded outputs lie half a grey level below their reference: they seem to be truncated; round to the nearest "
        "level before converting to integers, or parity fails for that"
    ]


def _outcome(outcome: Outcome, explanation: Explanation | None) -> OutcomeRow:
    line = outcome.requirement
    what = quantity(line.quantity)
    at_least, at_most = line.bounds
    rate = line.statistic == FAILURE_RATE
    return OutcomeRow(
        requirement=line.name,
        quantity=what.name,
        meaning=f"units that do not keep [{kept(line)}]" if rate else what.meaning,
        unit="" if rate else what.unit,
        statistic=line.statistic,
        confidence=line.confidence,
        level=outcome.level,
        at_least=at_least,
        at_most=at_most,
        gates=line.gates,
        status=Status(outcome.status),
        value=_finite(outcome.value),
        identical=outcome.value is not None and math.isinf(outcome.value),
        low=_finite(outcome.low),
        high=_finite(outcome.high),
        margin=_finite(outcome.margin),
        pairs=outcome.pairs,
        scenes=outcome.scenes,
        worst=None if outcome.worst is None else reference(outcome.worst),
        reason=outcome.reason,
        explanation=explanation,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
