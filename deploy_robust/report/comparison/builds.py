"""Builds of one engine: how much of every figure is the luck of a build."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from deploy_robust.report.comparison.records import WORST, BuildFigure, Builds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.report.comparison.gaps import Attacked
    from deploy_robust.report.comparison.records import EngineRow


def builds_of(
    engines: Sequence[Mapping[str, Any]], rows: Mapping[str, EngineRow], attacked: Attacked, levels: Sequence[float]
) -> Iterator[Builds]:
    """Every engine that was built more than once, with its figures build by build, the given file first."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for facts in engines:
        groups[facts["build_of"] or facts["name"]].append(facts)
    for name, builds in groups.items():
        if len(builds) == 1:
            continue
        these = [rows[facts["name"]] for facts in builds]
        yield Builds(
            engine=name,
            how=builds[-1]["how"],
            files=len({row.sha256 for row in these}),
            figures=tuple(_figures(these, attacked, levels)),
            verdicts=tuple(row.verdict for row in these),
            parity=tuple(row.parity for row in these),
        )


def _figures(rows: Sequence[EngineRow], attacked: Attacked, levels: Sequence[float]) -> Iterator[BuildFigure]:
    yield _figure("clean PSNR", None, [row.clean for row in rows])
    yield _figure("conversion", None, [row.conversion_db for row in rows])
    for level in levels:
        values = [list(attacked.values(row.name, WORST, level).values()) for row in rows]
        yield _figure("worst attack", level, [sum(v) / len(v) if v else None for v in values])


def _figure(name: str, level: float | None, values: Sequence[float | None]) -> BuildFigure:
    known = [value for value in values if value is not None]
    return BuildFigure(name, level, tuple(values), max(known) - min(known) if known else None)
