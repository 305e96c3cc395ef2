"""Charts of tests by betting: wealth over units, and what searches had found over queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from deploy_robust.report.figures import BAD, DASHES, GRID, SERIES, TEXT, as_svg, plain_figure
from deploy_robust.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.report.betting_records import BettingTest, Search

_LOWEST = -3.0
"""Wealth is drawn down to a thousandth: what is lost beyond it is lost."""


def wealth_chart(test: BettingTest, *, title: str) -> str:
    """Wealth after each unit on a logarithmic scale, with the bars that decide; units that failed are marked.

    Returns:
        An ``svg`` element for an HTML page.
    """
    figure, axes = plain_figure(4.4, 3.1)
    top = max(test.bar_pass, test.bar_fail or 0.0) + 0.35
    units = np.arange(test.units + 1)
    lines = [(test.wealth_pass, test.bar_pass, 0)]
    if test.bar_fail is not None:
        lines.append((test.wealth_fail, test.bar_fail, 1))
    for wealth, bar, style in lines:
        heights = [0.0, *(_LOWEST if value is None else min(max(value, _LOWEST), top) for value in wealth)]
        axes.plot(units, heights, color=SERIES[style], linewidth=2.0, linestyle=DASHES[style], zorder=3)
        axes.axhline(bar, color=SERIES[style], linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
    failed = [n for n, loss in enumerate(test.losses, start=1) if loss > 0] if test.counterexamples else []
    axes.plot(failed, [_LOWEST] * len(failed), color=BAD, linestyle="none", marker="|", markersize=9, zorder=2)
    axes.set_ylim(_LOWEST - 0.15, top)
    axes.set_xlim(0, max(test.units, 1))
    axes.yaxis.set_major_locator(FixedLocator(list(range(int(_LOWEST), int(top) + 1))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10.0**value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel("units", color=TEXT)
    axes.set_ylabel("wealth", color=TEXT)
    last = [number(None if value is None else 10**value) for value in (test.wealth_pass[-1:] + test.wealth_fail[-1:])]
    described = (
        f"after {test.units} units the wealth for PASS and, where there is one, for FAIL is {' and '.join(last)}"
    )
    return as_svg(figure, title, described)


def search_chart(searches: Sequence[Search], styles: Sequence[int], *, title: str) -> str:
    """Best PSNR over queries, mean over units, with thin lines for the units of the first search.

    Args:
        searches: At one epsilon.
        styles: Colour and dash of each.
        title: For readers that do not see the chart.

    Returns:
        An ``svg`` element for an HTML page.
    """
    figure, axes = plain_figure(4.4, 3.1)
    for order, (search, style) in enumerate(zip(searches, styles, strict=True)):
        colour = SERIES[style % len(SERIES)]
        if order == 0:
            for values in search.units.values():
                axes.plot(search.queries, values, color=colour, alpha=0.28, linewidth=0.5, zorder=2)
        dash = DASHES[style % len(DASHES)]
        axes.plot(
            search.queries, search.mean, color=colour, linewidth=2.0, linestyle=dash, marker="o", markersize=4, zorder=3
        )
    axes.set_xscale("log")
    marks = sorted({count for search in searches for count in search.queries})
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_xlabel("queries", color=TEXT)
    axes.set_ylabel("dB", color=TEXT)
    described = "; ".join(
        f"{number(search.mean[0])} dB after {search.queries[0]}, {number(search.mean[-1])} after {search.queries[-1]}"
        for search in searches
    )
    return as_svg(figure, title, described)
