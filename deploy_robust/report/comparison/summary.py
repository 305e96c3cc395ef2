"""A comparison, summarised from what its run stored: the one computation behind every format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.quantities import ATTACKED_CONVERSION, ATTACKED_FIDELITY, HIGHEST_PSNR
from deploy_robust.gate.records import BATCH_APART, BATCH_DB, CLEAN, INPUT, REPEAT, ROWS, ROWS_APART, Status
from deploy_robust.gate.table import Table
from deploy_robust.report.comparison.builds import builds_of
from deploy_robust.report.comparison.gaps import Attacked
from deploy_robust.report.comparison.gate import exceeded
from deploy_robust.report.comparison.records import (
    Column,
    Comparison,
    EngineRow,
    ParityCell,
    SourceRow,
    parity_figure,
)
from deploy_robust.report.wording import number
from deploy_robust.statistics.bootstrap import RESAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deploy_robust.gate.records import Measurement, Outcome, Verdict

CONFIDENCE = 0.95


def summarise(
    plan: Mapping[str, Any],
    measurements: Iterable[Measurement],
    verdicts: Mapping[str, Verdict],
    *,
    complete: bool = True,
    max_gap: float | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Everything that a comparison says.

    Args:
        plan: What the run was made for.
        measurements: What it measured.
        verdicts: Of every engine, by name.
        complete: Whether everything planned was measured.
        max_gap: Bound in dB on the gap of every engine to the networks that it was made from; None for none.
        confidence: Of the intervals.
        resamples: Of the bootstrap.
    """
    table = Table(measurements)
    metric = "psnr" if plan["pairs"]["paired"] else "drift"
    columns = tuple(
        Column(**{key: value for key, value in column.items() if key != "access"}) for column in plan["columns"]
    )
    rows = {e["name"]: _engine(e, table, verdicts[e["name"]]) for e in plan["engines"]}
    first = [e["name"] for e in plan["engines"] if e["build_of"] is None]
    sources = tuple(_source(s, table) for s in plan["sources"])
    attacked = Attacked(table, columns, metric, confidence=confidence, resamples=resamples, seed=plan["seed"])
    levels = tuple(level for level in table.levels() if level)
    void = {name: row.void for name, row in rows.items()}
    shown = (*first, *(s.name for s in sources if s.attacks))
    cells = tuple(attacked.cells(shown, levels, void))
    engines = tuple(rows[name] for name in first)
    return Comparison(
        metric=metric,
        images=len(table.scenes),
        scenes=len(set(table.scenes.values())),
        levels=levels,
        confidence=confidence,
        resamples=resamples,
        rain=_mean_clean(table, INPUT),
        complete=complete,
        notes=(*plan["notes"], *(() if complete else ("not everything was measured: repeat the command to go on",))),
        engines=engines,
        sources=sources,
        columns=columns,
        parity=tuple(_parity(table, [*first, *(s.name for s in sources)], set(first))),
        cells=cells,
        agreement=tuple(attacked.agreement(first, levels, void)),
        builds=tuple(builds_of(plan["engines"], rows, attacked, levels)),
        max_gap=max_gap,
        exceeded=() if max_gap is None else tuple(exceeded(max_gap, engines, columns, cells, levels)),
        provenance={key: value for key, value in plan.items() if key not in ("notes", "columns")},
    )


def _engine(facts: Mapping[str, Any], table: Table, verdict: Verdict) -> EngineRow:
    name = facts["name"]
    found = facts["capabilities"]
    defects = [m for m in table.defects if m.role == name]
    parity, why = _parity_state(verdict)
    clean_defects = sum(m.case.attack in (CLEAN, ROWS) for m in defects)
    void = why or (f"answers to clean images that were no image: {clean_defects}" if clean_defects else "")
    probed = {key: _over(table, name, key, ROWS) for key in (ROWS_APART, BATCH_APART, BATCH_DB)}
    return EngineRow(
        name=name,
        file=facts["file"],
        sha256=facts["sha256"],
        runtime=found["runtime"],
        provider=found["provider"],
        precision=found["precision"],
        own=facts["own"],
        literal=facts["literal"],
        clean=_mean_clean(table, name),
        parity=parity,
        void=void,
        conversion_db=_lowest(table, name, facts["own"]),
        fidelity_db=_lowest(table, name, facts["literal"]),
        repeat_max_abs=max(_over(table, name, REPEAT, CLEAN), default=None),
        rows_max_abs=max(probed[ROWS_APART], default=None),
        batch_max_abs=max(probed[BATCH_APART], default=None),
        batch_db=_finite(min(probed[BATCH_DB], default=None)),
        probed=len(probed[ROWS_APART]),
        defects=len(defects),
        verdict=verdict.status.value,
        sentence=verdict.sentence,
    )


def _parity_state(verdict: Verdict) -> tuple[str, str]:
    """What parity came to, and why the engine's robustness is void where it is broken."""
    attacked = (ATTACKED_CONVERSION, ATTACKED_FIDELITY)
    lines = [o for o in verdict.outcomes if o.requirement.name == "parity" or o.requirement.quantity in attacked]
    failed = [outcome for outcome in lines if outcome.status is Status.FAIL]
    if failed:
        return "broken", "parity is broken: " + " and ".join(_bound(outcome) for outcome in failed)
    if not lines:
        return "unknown", ""
    return ("holds" if all(outcome.status is Status.PASS for outcome in lines) else "unproven"), ""


def _bound(outcome: Outcome) -> str:
    line = outcome.requirement
    if line.at_most is not None:
        return f"{line.quantity} {outcome.value:.2g} (at most {line.at_most:g})"
    return f"{line.quantity} {number(outcome.value, 1)} dB (at least {line.at_least:g})"


def _source(facts: Mapping[str, Any], table: Table) -> SourceRow:
    name = facts["name"]
    return SourceRow(name, facts["kind"], facts["weights_sha256"], facts["attacks"], _mean_clean(table, name))


def _parity(table: Table, names: list[str], engines: set[str]) -> Iterator[ParityCell]:
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if a not in engines:
                continue
            decibels = _over(table, a, f"{parity_figure(a, b)}_db", CLEAN)
            if decibels:
                apart = max(_over(table, a, f"{parity_figure(a, b)}_max_abs", CLEAN))
                yield ParityCell(a, b, len(decibels), _finite(min(decibels)), apart)


def _lowest(table: Table, name: str, reference: str | None) -> float | None:
    if reference is None:
        return None
    return _finite(min(_over(table, name, f"{parity_figure(name, reference)}_db", CLEAN), default=None))


def _mean_clean(table: Table, role: str) -> float | None:
    values = [min(value, HIGHEST_PSNR) for value in _over(table, role, "psnr", CLEAN)]
    return sum(values) / len(values) if values else None


def _over(table: Table, role: str, metric: str, attack: str) -> list[float]:
    """A metric of every image that it was measured on."""
    found = [table.get(metric, role, pair, attack) for pair in table.scenes]
    return [value for value in found if value is not None]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
