"""The report for people: one page in one file, which asks for nothing from outside."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deploy_robust.gate.quantities import ENGINE, NOISE, SOURCE, TRANSFERRED
from deploy_robust.gate.records import Status
from deploy_robust.report import sights, strips, thumbnails, wording
from deploy_robust.report.betting_figures import search_chart, wealth_chart
from deploy_robust.report.figures import Series, gap_chart, line_chart
from deploy_robust.report.provenance import flatten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy_robust.report.betting_records import BettingTest
    from deploy_robust.report.records import Curve, OutcomeRow, Summary
    from deploy_robust.report.summary import Run

_NOISES = (NOISE, "corners")
_METRICS = (("psnr", "PSNR", "dB", 2), ("ssim", "SSIM", "", 4), ("drop", "Loss against the clean output", "dB", 2))
_WITHOUT_TRUTH = (("drift", "PSNR between attacked and clean output", "dB", 2),)
_MEANING = {
    "psnr": "PSNR of the output against the ground truth; higher is better.",
    "ssim": "SSIM of the output against the ground truth; higher is better.",
    "drop": "Clean PSNR minus attacked PSNR of the same image; lower is better.",
    "drift": "PSNR between the output on the attacked and on the clean image; higher is better.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the charts and of the tables beside them.

    Attributes:
        role: Which network.
        attack: Under which attack.
        style: Number of its colour, dash and marker.
        noise: Whether the attack is a baseline without a target.
    """

    role: str
    attack: str
    style: int
    noise: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval against its bound, on a scale from 0 to 100.

    Attributes:
        good: (from, to) of the range that the requirement allows.
        low: Lower end of the interval.
        high: Upper end.
        value: The statistic.
    """

    good: tuple[float, float]
    low: float
    high: float
    value: float


def render(summary: Summary, run: Run) -> bytes:
    """The page as UTF-8 bytes."""
    lines = chart_lines(summary)
    shown = strips.strips(run, summary.cases)
    template = environment().get_template("report.html")
    page = template.render(
        summary=summary,
        claims=(claims := [test.claim for test in summary.tests if test.claim in summary.sentence]),
        headline=_without(summary.sentence, claims),
        css=_asset("report.css"),
        script=_asset("report.js"),
        subject=summary.provenance.get("engine", {}).get("file") or "engine",
        lines=lines,
        charts=list(_charts(summary, lines)),
        tables=_metrics(summary),
        gap=_gap(summary),
        betting=_betting(summary),
        searched=_searched(summary),
        rows=list(_grouped_rows(summary)),
        strips=shown,
        filters=_filters(shown),
        sights=sights.shown(run, summary.downstream),
        defects=strips.defect_pictures(run, summary.defects),
        provenance=flatten(summary.provenance),
        amplification=thumbnails.AMPLIFICATION,
        largest_side=thumbnails.LARGEST_SIDE,
    )
    return page.encode("utf-8")


def chart_lines(summary: Summary) -> list[Line]:
    """The engine under every attack, and every other network under the attack that it can be compared by."""
    aimed = [attack for attack in summary.attacks if attack not in _NOISES]
    compared = TRANSFERRED if TRANSFERRED in summary.attacks else next(iter([*aimed, *summary.attacks]), "")
    named = [(ENGINE, compared), *((role, compared) for role in summary.roles if role != ENGINE)]
    named += [(ENGINE, attack) for attack in summary.attacks if attack != compared]
    measured = {(curve.role, curve.attack) for curve in summary.curves if curve.delivery == "8bit"}
    return [
        Line(role, attack, style, attack in _NOISES)
        for style, (role, attack) in enumerate(pair for pair in named if pair in measured)
    ]


def _metrics(summary: Summary) -> list[tuple[str, str, str, int]]:
    measured = {curve.metric for curve in summary.curves}
    return [metric for metric in (_METRICS if "psnr" in measured else _WITHOUT_TRUTH) if metric[0] in measured]


def _charts(summary: Summary, lines: list[Line]) -> Iterator[tuple[str, str, Markup]]:
    """(title, meaning, svg) for each metric."""
    for metric, title, unit, digits in _metrics(summary):
        series = []
        for line in lines:
            curve = summary.curve(line.role, line.attack, metric)
            if curve is not None:
                series.append(Series(curve, line.style, spread=line.style == 0))
        description = "; ".join(_in_words(item.curve, item.style, digits) for item in series)
        svg = line_chart(
            series, summary.rain.get(metric), unit=unit or title, title=f"{title} over epsilon", description=description
        )
        yield title, _MEANING[metric], Markup(svg)  # noqa: S704  # drawn by us, and it holds no foreign text


def _in_words(curve: Curve, style: int, digits: int) -> str:
    values = ", ".join(f"{wording.number(p.mean, digits)} at {wording.epsilon(p.level)}" for p in curve.points)
    return f"line {style + 1}, mean {values}"


def _gap(summary: Summary) -> Markup | None:
    if not summary.transfer:
        return None
    limits = {b for row in summary.outcomes if row.quantity == "transfer-gap" for b in (row.at_least, row.at_most)}
    by_level = defaultdict(list)
    for item in summary.transfer:
        by_level[item.level].append(item.gap)
    description = "; ".join(
        f"at {wording.epsilon(level)} from {wording.number(min(gaps))} to {wording.number(max(gaps))} dB"
        for level, gaps in by_level.items()
    )
    bounds = [limit for limit in limits if limit is not None]
    svg = gap_chart(summary.transfer, bounds, title="Transfer gap image by image", description=description)
    return Markup(svg)  # noqa: S704  # drawn by us, and it holds no foreign text


def _without(sentence: str, claims: list[str]) -> str:
    """The verdict without its claims, which the page tells apart."""
    for claim in claims:
        sentence = sentence.replace(f" {claim}", "")
    return sentence


def _betting(summary: Summary) -> list[tuple[BettingTest, str, Markup]]:
    """(test, its name, svg) of every test by betting."""
    titles = [test.requirement + (f" at {wording.epsilon(test.level)}" if test.level else "") for test in summary.tests]
    return [
        (test, title, Markup(wealth_chart(test, title=f"Wealth of test {n} over units")))  # noqa: S704  # drawn by us
        for n, (test, title) in enumerate(zip(summary.tests, titles, strict=True), start=1)
    ]


def _searched(summary: Summary) -> tuple[list[tuple[str, int]], list[tuple[str, Markup]]]:
    """Searches with their styles, and (epsilon, svg) of each epsilon that they worked at."""
    names = list(dict.fromkeys(search.attack for search in summary.searches))
    charts = []
    for level in dict.fromkeys(search.level for search in summary.searches):
        there = [search for search in summary.searches if search.level == level]
        title = f"Best PSNR over queries at {wording.epsilon(level)}"
        svg = search_chart(there, [names.index(search.attack) for search in there], title=title)
        charts.append((wording.epsilon(level), Markup(svg)))  # noqa: S704  # drawn by us
    return [(name, index) for index, name in enumerate(names)], charts


def _grouped_rows(summary: Summary) -> Iterator[tuple[OutcomeRow, Bar | None, bool]]:
    """Outcomes with their bars, and whether each opens its group.

    The epsilons of one requirement are a group: they share a scale, so that the eye can compare them.
    """
    groups: dict[tuple[str, str], list[OutcomeRow]] = defaultdict(list)
    for row in summary.outcomes:
        groups[row.requirement, row.quantity].append(row)
    for row in summary.outcomes:
        group = groups[row.requirement, row.quantity]
        yield row, bar(row, group), row is group[0]


def bar(row: OutcomeRow, group: list[OutcomeRow]) -> Bar | None:
    """The interval of one outcome on a scale that holds its whole group; None where there is no finite value."""
    if row.value is None:
        return None
    # Zero belongs to every scale: without it a value near its bound would lie at the far end from it.
    marks = [0.0, *(x for r in group for x in (r.value, r.low, r.high, r.at_least, r.at_most) if x is not None)]
    low, high = min(marks), max(marks)
    pad = 0.12 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def place(x: float | None, otherwise: float) -> float:
        return otherwise if x is None else round(100 * (x - low) / (high - low), 2)

    return Bar(
        good=(place(row.at_least, 0.0), place(row.at_most, 100.0)),
        low=place(row.low, 0.0),
        high=place(row.high, 100.0),
        value=place(row.value, 50.0),
    )


def _filters(shown: list[strips.Strip]) -> dict[str, list[Any]]:
    """What the page's filter offers: attacks in the order of appearance, epsilons ascending."""
    return {
        "attacks": list(dict.fromkeys(strip.row.case.attack for strip in shown)),
        "levels": sorted({strip.row.case.level for strip in shown}),
    }


def _asset(name: str) -> Markup:
    return Markup(files("deploy_robust.report").joinpath("assets", name).read_text(encoding="utf-8"))  # noqa: S704  # our own file


def environment() -> Environment:
    """Templates that escape every value, after writing out what no reader should meet raw."""

    def finalize(value: Any) -> Any:
        return wording.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("deploy_robust.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.number,
        "epsilon": wording.epsilon,
        "bound": wording.bound,
        "measured": wording.measured,
        "measured_interval": wording.measured_interval,
        "margin": wording.margin,
        "case_name": wording.case_name,
        "metric_name": wording.metric_name,
        "set_interval": wording.set_interval,
        "requirement_name": wording.requirement_name,
        "with_unit": wording.with_unit,
        "inside": lambda title: title if title[:2].isupper() else title[:1].lower() + title[1:],
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals |= {"Status": Status, "ENGINE": ENGINE, "SOURCE": SOURCE}
    return environment
