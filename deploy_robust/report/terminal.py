"""The report for a terminal: renderables of rich; printing them is the command's business.

Foreign text enters as `Text`, never as markup, and without control characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy_robust.gate.records import Status
from deploy_robust.report import wording

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deploy_robust.report.records import Curve, Summary

_STYLES = {Status.PASS: "green", Status.FAIL: "red", Status.INCONCLUSIVE: "yellow"}


def verdict_panel(summary: Summary) -> Panel:
    """The verdict, where it comes from and what to run next."""
    lines: list[RenderableType] = [_text(summary.sentence, f"bold {_STYLES[summary.status]}")]
    lines += [_text(line) for line in summary.because]
    if summary.registered is not None:
        spent = summary.registered
        lines.append(
            _text(
                f"Registered as {spent.digest[:16]}, at most {spent.most} units; spent: {spent.units_spent} units, "
                f"{spent.queries_spent} queries of searches."
            )
        )
    lines += [_text(f"It cannot pass: {cap}.") for cap in summary.caps]
    lines += [_text(f"Note: {note}") for note in summary.notes]
    lines += [
        Text.assemble("next: ", (wording.printable(command), "bold"), f"  {wording.printable(purpose)}")
        for command, purpose in summary.next_steps
    ]
    return Panel(Group(*lines), border_style=_STYLES[summary.status], box=box.ROUNDED, padding=(0, 1))


def requirement_table(summary: Summary) -> Table:
    """Each requirement and epsilon with bound, measured value, interval and margin; fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("requirement")
    table.add_column("status", no_wrap=True)
    for name in ("bound", "measured", "interval", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary.outcomes:
        table.add_row(
            _text(wording.requirement_name(row)),
            Text(row.status, style=_STYLES[row.status]),
            wording.bound(row),
            _bare(wording.measured(row)),
            Text(wording.measured_interval(row)),  # brackets are markup elsewhere
            _bare(wording.margin(row)),
        )
    return table


def baseline_table(summary: Summary) -> Table | None:
    """Mean PSNR of every network under noise and attack by epsilon, clean first; None where nothing was attacked.

    The last column is the mean adversarial performance (eq. 7 of the paper): the mean over the epsilons.

    Without ground truth the figures are the PSNR to the network's own clean output.
    """
    metric = "psnr" if any(curve.metric == "psnr" for curve in summary.curves) else "drift"
    curves = [curve for curve in summary.curves if curve.metric == metric and curve.delivery == "8bit"]
    if not curves:
        return None
    levels = [*([0.0] if metric == "psnr" else []), *summary.levels]
    title = "mean PSNR, dB" if metric == "psnr" else "mean PSNR to the clean output, dB"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("network", no_wrap=True)
    table.add_column("attack", no_wrap=True)
    for name in (*(wording.epsilon(level) for level in levels), "mean\nadversarial"):
        table.add_column(name, justify="right", no_wrap=True)
    if metric == "psnr" and "psnr" in summary.rain:
        rain = wording.number(summary.rain["psnr"].mean)
        table.add_row("rainy input", "", rain, *([""] * len(summary.levels)), "", style="dim")
    for curve in curves:
        table.add_row(
            _text(curve.role), _text(curve.attack), *_means(curve, levels), wording.number(curve.mean_adversarial)
        )
    return table


def downstream_table(summary: Summary) -> Table | None:
    """What other networks saw, over all images taken together; None where none looked."""
    report = summary.downstream
    if report is None:
        return None
    title = "seen by " + " and ".join(wording.printable(name) for name in report.networks.values())
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("looked at", no_wrap=True)
    for name in ("epsilon", *(wording.metric_name(metric) for metric in report.metrics)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        found = {metric: row.figures.get(metric) for metric in report.metrics}
        figures = [
            ""
            if each is None
            else wording.number(each.value, 3) + ("" if metric == "ap" else f" {wording.set_interval(each)}")
            for metric, each in found.items()  # intervals of all three would not fit into 80 columns
        ]
        table.add_row(_text(row.view), wording.epsilon(row.level) if row.level else "", *map(Text, figures))
    return table


def _bare(figure: str) -> str:
    """A figure without its unit, which the bound of the same line shows."""
    return figure.partition(wording.NBSP)[0]


def _means(curve: Curve, levels: list[float]) -> list[str]:
    found = {point.level: point.mean for point in curve.points}
    return [wording.number(found.get(level)) for level in levels]


def _text(text: str, style: str = "") -> Text:
    return Text(wording.printable(text), style=style)
