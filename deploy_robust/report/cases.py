"""Attacked images one by one, the worst first, and the defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.gate.quantities import ENGINE, SOURCE
from deploy_robust.gate.records import CLEAN, INPUT
from deploy_robust.report.curves import finite, value_of
from deploy_robust.report.records import CaseRef, CaseRow, DefectRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.gate.records import Case, Measurement
    from deploy_robust.gate.table import Table


def reference(case: Case) -> CaseRef:
    """A case as reports name it."""
    return CaseRef(case.pair, case.attack, case.level)


def attacked_cases(table: Table, measurements: Sequence[Measurement]) -> tuple[CaseRow, ...]:
    """Every 8-bit attacked image that the engine answered to, by how much it lost, the most first.

    Without ground truth the order is by drift: the smaller the PSNR to the clean output, the further up.
    """
    clean = {m.case.pair: m for m in measurements if m.role == ENGINE and m.case.attack == CLEAN}
    rows = [
        _row(table, m, clean.get(m.case.pair))
        for m in measurements
        if m.role == ENGINE and m.delivery == "8bit" and m.case.attacked and m.defect is None
    ]
    return tuple(sorted(rows, key=_severity))


def _severity(row: CaseRow) -> tuple[float, float, str, str, float]:
    drop = float("inf") if row.drop is None else -row.drop
    drift = float("inf") if row.drift is None else row.drift
    return drop, drift, row.case.pair, row.case.attack, row.case.level


def _row(table: Table, m: Measurement, clean: Measurement | None) -> CaseRow:
    case = m.case

    def number(metric: str, role: str, *, attacked: bool) -> float | None:
        at = (case.attack, case.level) if attacked else (CLEAN, 0.0)
        value = value_of(table, metric, role, case.pair, *at)
        return None if value is None else finite(value)

    return CaseRow(
        case=reference(case),
        scene=m.scene,
        drop=number("drop", ENGINE, attacked=True),
        psnr_input=number("psnr", INPUT, attacked=False),
        psnr_clean=number("psnr", ENGINE, attacked=False),
        psnr_attacked=number("psnr", ENGINE, attacked=True),
        ssim_attacked=number("ssim", ENGINE, attacked=True),
        psnr_source=number("psnr", SOURCE, attacked=True),
        drift=number("drift", ENGINE, attacked=True),
        rainy=clean.input_image if clean else "",
        attacked=m.input_image,
        clean_output=clean.output_image if clean else "",
        attacked_output=m.output_image,
    )


def defects(table: Table) -> tuple[DefectRow, ...]:
    """Every defect, in the order of the run."""
    return tuple(
        DefectRow(reference(m.case), m.role, m.delivery, m.defect.kind, m.defect.detail, m.input_image)
        for m in table.defects
        if m.defect is not None
    )
