"""Charts as SVG for one HTML page: drawn by Matplotlib, coloured by the page.

Colours are placeholders that become CSS variables, so that one chart serves light, dark and print; text stays text in
the page's own font. Nothing that a user named is drawn: names stand in the page's legend, where they are escaped.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from deploy_robust.report.wording import MINUS, epsilon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from deploy_robust.report.records import Curve, Spread, Transfer

TEXT, GRID, RAIN, BAD = "#00f101", "#00f102", "#00f103", "#00f104"
SERIES = tuple(f"#00f2{index:02x}" for index in range(1, 7))
_VARIABLES = {TEXT: "--muted", GRID: "--line", RAIN: "--rain", BAD: "--fail"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES, start=1)
}
_MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[str | tuple[float, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.6)),
    (0, (4, 1.6, 1, 1.6)),
    (0, (8, 2)),
    (0, (2, 2)),
)
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        curve: What it shows.
        style: Which colour, dash and marker, counted from 0; the legend uses the same number.
        spread: Whether to draw its images one by one and the range that they span.
    """

    curve: Curve
    style: int
    spread: bool = False


def line_chart(series: Sequence[Series], rain: Spread | None, *, unit: str, title: str, description: str) -> str:
    """A metric over epsilon: a line for each series, thin lines for the images of those that show their spread.

    Args:
        series: The lines; the first ones are drawn on top.
        rain: What the rainy input itself measures, drawn as a level.
        unit: Unit of the vertical axis.
        title: For readers that do not see the chart.
        description: Likewise, in a sentence.

    Returns:
        An ``svg`` element for an HTML page.
    """
    figure, axes = plain_figure(4.4, 3.1)
    levels = sorted({point.level for line in series for point in line.curve.points})
    place = {level: index for index, level in enumerate(levels)}
    for order, line in enumerate(reversed(series), start=2):
        _draw(axes, line, place, order)
    if rain is not None:
        axes.axhline(rain.mean, color=RAIN, linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
    axes.set_xlim(-0.25, len(levels) - 0.75)
    axes.xaxis.set_major_locator(FixedLocator(list(range(len(levels)))))
    axes.set_xticklabels([epsilon(level) for level in levels])
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_ylabel(unit, color=TEXT)
    axes.set_xlabel("epsilon", color=TEXT)
    return as_svg(figure, title, description)


def _draw(axes: Axes, line: Series, place: dict[float, int], order: int) -> None:
    points = line.curve.points
    x = [place[point.level] for point in points]
    colour = SERIES[line.style % len(SERIES)]
    if line.spread:
        axes.fill_between(
            x, [p.q25 for p in points], [p.q75 for p in points], color=colour, alpha=0.16, linewidth=0, zorder=order
        )
        for values in line.curve.images.values():
            y = [np.nan if value is None else value for value in values]
            axes.plot(x, y, color=colour, alpha=0.28, linewidth=0.5, zorder=order)
    axes.plot(
        x,
        [point.mean for point in points],
        color=colour,
        linewidth=2.0,
        linestyle=DASHES[line.style % len(DASHES)],
        marker=_MARKERS[line.style % len(_MARKERS)],
        markersize=5,
        zorder=order + 0.5,
    )


def gap_chart(transfer: Sequence[Transfer], bounds: Sequence[float], *, title: str, description: str) -> str:
    """Engine minus source, one dot for each image, one row for each epsilon, with the mean as a tall mark.

    Args:
        transfer: The gaps.
        bounds: Limits that the policy sets, drawn as dashed lines.
        title: For readers that do not see the chart.
        description: Likewise, in a sentence.

    Returns:
        An ``svg`` element for an HTML page.
    """
    levels = sorted({row.level for row in transfer})
    figure, axes = plain_figure(9.0, 0.9 + 0.52 * len(levels))
    axes.axvline(0, color=TEXT, linewidth=1, zorder=1)
    for limit in bounds:
        axes.axvline(limit, color=BAD, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
    for row, level in enumerate(levels):
        gaps = sorted(item.gap for item in transfer if item.level == level)
        # Spread over the row by rank, so that equal gaps do not hide each other.
        height = row + 0.5 * ((np.arange(len(gaps)) * 0.618034) % 1 - 0.5)
        axes.plot(gaps, height, color=SERIES[0], linestyle="none", marker="o", markersize=4, alpha=0.45, zorder=2)
        axes.plot(
            [float(np.mean(gaps))], [row], color=SERIES[1], marker="|", markersize=20, markeredgewidth=2.4, zorder=3
        )
    axes.set_ylim(len(levels) - 0.45, -0.55)
    axes.yaxis.set_major_locator(FixedLocator(list(range(len(levels)))))
    axes.set_yticklabels([epsilon(level) for level in levels])
    axes.xaxis.set_major_locator(MaxNLocator(9))
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_xlabel("engine PSNR minus source PSNR, dB", color=TEXT)
    return as_svg(figure, title, description)


def plain_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches with one plain pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    axes.margins(y=0.1)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)
    axes.tick_params(colors=TEXT, length=0, labelsize=9, pad=5)
    axes.xaxis.set_minor_locator(NullLocator())
    return figure, axes


def as_svg(figure: Figure, title: str, description: str) -> str:
    """Saves a figure and makes it part of a page: no fixed size, fonts, colours or global style of its own."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "axes.unicode_minus": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  # our own bytes
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        "role": "img",
        "aria-label": f"{title}. {description}",
    }
    used = set(re.findall(r"#([\w-]+)", " ".join(value for e in root.iter() for value in e.attrib.values())))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if f"{_XLINK}href" in element.attrib:
            element.attrib["href"] = element.attrib.pop(f"{_XLINK}href")
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
        if element.tag == "text":
            style = element.attrib.get("style", "")
            element.attrib["style"] = re.sub(r"font: ?([\d.]+px)[^;]*", r"font-size: \1", style)
            element.text = (element.text or "").replace("-", MINUS)
    text = ET.tostring(root, encoding="unicode")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
