"""What the ablations' results say: a table, a plot, and one sentence for each insight of the paper, by a fixed rule.

Differences are paired by seed, and their interval is Student's, two-sided, 95 %, over seeds. A comparison is

* reproduced, when its whole interval lies on the paper's side of zero;
* not reproduced, when its whole interval lies below `LEAST` on the paper's side: an effect worth naming is excluded;
* not decidable, otherwise, and where one of the two leaves clean images worse than the rain: it was not trained.

An insight of several comparisons is reproduced when all of them are, not reproduced when one of them is not, and not
decidable otherwise.
"""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import click
from ablation_grid import INSIGHTS, PAPER

from deploy_robust.artefact.files import write_bytes
from deploy_robust.statistics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ablation_grid import Comparison, Insight

LEAST = {"map_psnr": 0.1, "clean_ssim": 0.002}
"""Smallest effect worth naming: dB of the mean adversarial PSNR, and clean SSIM."""

REPRODUCED, NOT_REPRODUCED, NOT_DECIDABLE = "reproduced", "not reproduced", "not decidable at this scale"

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
"""Lines of a page between which results stand."""

OFF_SCALE = 4.0
"""Means this far below the median, dB, are drawn as an arrow at the edge of the plot."""

MARGIN = 0.6
"""How far that edge lies below the lowest dot, dB."""

COLUMNS = ("clean_psnr", "clean_ssim", "psnr_1", "psnr_2", "psnr_4", "psnr_8", "map_psnr", "map_ssim")
HEADINGS = (
    *("configuration", "parameters", "steps", "seeds", "clean, dB", "clean SSIM"),
    *("1/255", "2/255", "4/255", "8/255", "mean, dB", "mean SSIM", "lost, dB"),
)


def verdict(difference: Interval, least: float) -> str:
    """One comparison, by the rule above; the difference is positive where the paper is right."""
    if difference.low > 0:
        return REPRODUCED
    return NOT_REPRODUCED if difference.high < least else NOT_DECIDABLE


def verdict_of_all(verdicts: Iterable[str]) -> str:
    """An insight of several comparisons."""
    given = set(verdicts)
    if NOT_REPRODUCED in given:
        return NOT_REPRODUCED
    return REPRODUCED if given == {REPRODUCED} else NOT_DECIDABLE


def difference(rows: list[dict[str, Any]], comparison: Comparison) -> Interval | None:
    """Better minus worse over the seeds that both have; None with fewer than two."""
    better, worse = (
        {row["seed"]: row[comparison.what] for row in rows if row["configuration"] == name}
        for name in (comparison.better, comparison.worse)
    )
    seeds = sorted(better.keys() & worse.keys())
    return mean_interval([better[seed] - worse[seed] for seed in seeds]) if len(seeds) > 1 else None


def sentence(rows: list[dict[str, Any]], insight: Insight) -> str | None:
    """The insight, its verdict and the figures behind it; None where a comparison was not measured."""
    parts, verdicts = [], []
    for comparison in insight.comparisons:
        found = difference(rows, comparison)
        if found is None:
            return None
        untrained = [name for name in (comparison.better, comparison.worse) if not _trained(rows, name)]
        verdicts.append(NOT_DECIDABLE if untrained else verdict(found, LEAST[comparison.what]))
        why = f", since {untrained[0]} is worse than the rain on clean images" if untrained else ""
        parts.append(
            f"{comparison.better} minus {comparison.worse} {_signed(found, comparison.what)}: {verdicts[-1]}{why}"
            f" (paper: {_paper(comparison)})"
        )
    whole = verdict_of_all(verdicts)
    return f"**{insight.text[0].upper()}{insight.text[1:]}** ({insight.where}): **{whole}**. " + "; ".join(parts) + "."


def _trained(rows: list[dict[str, Any]], name: str) -> bool:
    mine = [row for row in rows if row["configuration"] == name]
    return fmean(row["clean_psnr"] for row in mine) > fmean(row["rain_psnr"] for row in mine)


def text(found: dict[str, Any]) -> str:
    """Table and sentences as Markdown."""
    rows = found["rows"]
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "| " + " | ".join(["---"] * len(HEADINGS)) + " |",
    ]
    for name in _names(rows):
        mine = [row for row in rows if row["configuration"] == name]
        cells = [name, f"{mine[0]['parameters']:,}", str(mine[0]["steps"]), str(len(mine))]
        for column in COLUMNS:
            digits = 3 if column.endswith("ssim") else 2
            interval = mean_interval([row[column] for row in mine])
            around = f" ± {interval.high - interval.mean:.2f}" if column == "map_psnr" and len(mine) > 1 else ""
            cells.append(f"{interval.mean:.{digits}f}{around}")
        cells.append(f"{fmean(row['clean_psnr'] - row['map_psnr'] for row in mine):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    sentences = [said for insight in INSIGHTS if (said := sentence(rows, insight)) is not None]
    if not sentences:
        sentences = ["No comparison has two seeds yet."]
    return "\n".join([_budget(found), "", *lines, "", *(f"- {said}" for said in sentences), ""])


def into_page(page: Path, found: dict[str, Any]) -> None:
    """Puts the text between the two markers of a page.

    Raises:
        ClickException: The page has no markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.ClickException(f"{page} has no lines {BEGIN} and {END}: add them where the results belong")
    write_bytes(page, f"{before}{BEGIN}\n\n{text(found)}\n{END}{after}".encode())


def _budget(found: dict[str, Any]) -> str:
    setting, spent = found["setting"], sorted(row["cpu_seconds"] for row in found["rows"])
    return (
        f"Budget: {setting['seconds']:g} s of CPU time for each training (they took {spent[0]:g} to {spent[-1]:g} s, "
        f"median {spent[len(spent) // 2]:g} s), {setting['scenes']} held-out scenes, {len(spent)} trainings."
    )


def draw(found: dict[str, Any], path: Path) -> None:
    """Mean adversarial PSNR and clean PSNR of each configuration, one dot a seed, and the mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = found["rows"]
    names = _names(rows)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 0.32 * len(names) + 1.2), sharey=True, layout="constrained")
    for axis, column, title in zip(
        axes, ("map_psnr", "clean_psnr"), ("mean adversarial PSNR, dB", "clean PSNR, dB"), strict=True
    ):
        seeds = {name: [row[column] for row in rows if row["configuration"] == name] for name in names}
        least = median(row[column] for row in rows) - OFF_SCALE
        edge = min(value for values in seeds.values() if fmean(values) >= least for value in values) - MARGIN
        for place, (name, values) in enumerate(seeds.items()):
            colour = "C0" if name.startswith("rcdnet") else "C1" if name.startswith("jorder") else "C2"
            if fmean(values) < least:  # it would leave no room for the others
                axis.plot(edge, place, "<", color=colour)
                axis.annotate(f"{fmean(values):.1f}", (edge, place), (8, -4), textcoords="offset points")
                continue
            axis.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5)
            axis.plot(fmean(values), place, "|", color=colour, markersize=14, markeredgewidth=2)
        axis.set_xlabel(title)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """Configurations with results, in the order of the grid."""
    there = {row["configuration"] for row in rows}
    return [c.name for c in PAPER if c.name in there]


def _signed(interval: Interval, what: str) -> str:
    digits, unit = (4, "SSIM") if what.endswith("ssim") else (2, "dB")
    mean, low, high = (f"{value:+.{digits}f}" for value in interval)
    return f"{mean} {unit} [{low}, {high}]"


def _paper(comparison: Comparison) -> str:
    if comparison.rain100h is None or comparison.cityscapes is None:
        return "a curve without figures"
    digits = 4 if comparison.what.endswith("ssim") else 2
    return f"{comparison.rain100h:+.{digits}f} on Rain100H, {comparison.cityscapes:+.{digits}f} on RainCityscapes"
