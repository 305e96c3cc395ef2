"""The report for a pull request: a short summary in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deploy_robust.gate.records import Status
from deploy_robust.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy_robust.report.records import Summary
    from deploy_robust.report.summary import Run

_MARKS = {Status.PASS: "\N{WHITE HEAVY CHECK MARK}", Status.FAIL: "\N{CROSS MARK}"}
_OPEN = "\N{BLACK QUESTION MARK ORNAMENT}"
_WORST = 5


def render(summary: Summary, run: Run) -> bytes:  # noqa: ARG001  # every format has one shape
    """The Markdown as UTF-8 bytes."""
    return ("\n".join(_lines(summary)) + "\n").encode("utf-8")


def _lines(summary: Summary) -> Iterator[str]:
    engine = str((summary.provenance.get("engine") or {}).get("file", "engine"))
    yield f"## {_mark(summary.status)} deploy-robust: {escape(engine)}"
    yield ""
    yield f"**{escape(summary.sentence)}**"
    yield ""
    yield from (f"- {escape(line)}" for line in summary.because)
    yield from (f"- It cannot pass: {escape(cap)}." for cap in summary.caps)
    yield from (f"- {escape(note)}" for note in summary.notes)
    if summary.next_steps:
        yield ""
        yield from (f"- Next: {_code(command)}: {escape(purpose)}" for command, purpose in summary.next_steps)
    if summary.registered is not None:
        spent = summary.registered
        yield ""
        yield (
            f"Registered as `{spent.digest[:16]}`: {escape(spent.suite)}; at most {spent.most} units. "
            f"Spent: {spent.units_spent} units, {spent.queries_spent} queries."
        )
    yield ""
    yield from _table(
        ("Requirement", "Status", "Bound", "Measured", "Interval", "Margin"),
        [
            (
                escape(wording.requirement_name(row)),
                f"{_mark(row.status)} {row.status}",
                wording.bound(row),
                wording.measured(row),
                wording.measured_interval(row),
                wording.margin(row),
            )
            for row in summary.outcomes
        ],
    )
    if summary.downstream is not None:
        yield ""
        yield from _table(
            ("Looked at", "Epsilon", *map(wording.metric_name, summary.downstream.metrics)),
            [
                (
                    escape(row.view),
                    wording.epsilon(row.level) if row.level else "",
                    *(
                        f"{wording.number(found.value, 3)} {wording.set_interval(found)}"
                        if (found := row.figures.get(metric)) is not None
                        else wording.NOTHING
                        for metric in summary.downstream.metrics
                    ),
                )
                for row in summary.downstream.rows
            ],
        )
    if summary.cases:
        yield ""
        count = f"{min(_WORST, len(summary.cases))} of {len(summary.cases)}"
        yield f"<details><summary>Worst {count} attacked images</summary>"
        yield ""
        yield from _table(
            ("Case", "Clean PSNR", "Attacked PSNR", "Loss"),
            [
                (
                    escape(wording.case_name(row.case)),
                    wording.with_unit(wording.number(row.psnr_clean), "dB"),
                    wording.with_unit(wording.number(row.psnr_attacked), "dB"),
                    wording.with_unit(wording.number(row.drop), "dB"),
                )
                for row in summary.cases[:_WORST]
            ],
        )
        yield ""
        yield "</details>"
    yield ""
    counted = f"{summary.pairs} images, {summary.scenes} independent scenes."
    yield f"{counted} Sampling says nothing about what was not tried."


def _mark(status: Status) -> str:
    return _MARKS.get(status, _OPEN)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def escape(text: str) -> str:
    """Foreign text for the middle of a line: no markup, no HTML, no table cell, no mention of a user, no line break."""
    safe = wording.printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", safe)


def _code(text: str) -> str:
    """Foreign text as code, fenced by more backticks than it holds in a row."""
    safe = wording.printable(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", safe)), default=0) + 1)
    return f"{fence} {safe} {fence}" if "`" in safe else f"`{safe}`"
