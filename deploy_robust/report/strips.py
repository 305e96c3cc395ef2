"""Which attacked images a page shows, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.report.thumbnails import amplified_difference, data_uri, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.report.records import CaseRow, DefectRow
    from deploy_robust.report.summary import Run

MOST = 24
"""Strips on a page: what keeps it far below ten megabytes."""

MOST_DEFECTS = 12
"""Pictures of defects on a page."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A case with its pictures as ``data:`` addresses; empty where the store does not hold one.

    Attributes:
        rank: Place among all cases, 1 for the worst.
        row: The figures.
        rainy: The rainy input.
        attacked: The attacked input.
        clean_output: Output on the rainy input.
        attacked_output: Output on the attacked input.
        difference: Difference of the two outputs, amplified.
        width: Of the original images, in pixels.
        height: Likewise.
    """

    rank: int
    row: CaseRow
    rainy: str
    attacked: str
    clean_output: str
    attacked_output: str
    difference: str
    width: int
    height: int


def choose(rows: Sequence[CaseRow], most: int = MOST) -> list[tuple[int, CaseRow]]:
    """Ranks and cases to show, worst first: the worst of every attack and epsilon, then the worst of all.

    So every choice of the page's filter shows something, and the top of the page is the top of the list.
    """
    ranked = list(enumerate(rows, start=1))
    first: dict[tuple[str, float], int] = {}
    for rank, row in ranked:
        first.setdefault((row.case.attack, row.case.level), rank)
    chosen = sorted(first.values())[:most]
    rest = [rank for rank, _ in ranked if rank not in set(chosen)]
    chosen += rest[: most - len(chosen)]
    return [ranked[rank - 1] for rank in sorted(chosen)]


def strips(run: Run, rows: Sequence[CaseRow]) -> list[Strip]:
    """The chosen cases with their pictures, read from the store one by one."""
    return [_strip(run, rank, row) for rank, row in choose(rows) if row.attacked]


def _strip(run: Run, rank: int, row: CaseRow) -> Strip:
    names = ("rainy", "attacked", "clean_output", "attacked_output")
    images = {name: decode(run.png(sha256)) for name in names if (sha256 := getattr(row, name))}
    pictures = {name: data_uri(images[name]) if name in images else "" for name in names}
    difference = ""
    if "clean_output" in images and "attacked_output" in images:
        difference = data_uri(amplified_difference(images["attacked_output"], images["clean_output"]))
    height, width = images["attacked"].shape[:2]
    return Strip(rank, row, **pictures, difference=difference, width=width, height=height)


def defect_pictures(run: Run, rows: Sequence[DefectRow]) -> list[tuple[DefectRow, str]]:
    """The first defects with the input that caused them."""
    return [(row, data_uri(decode(run.png(row.image))) if row.image else "") for row in rows[:MOST_DEFECTS]]
