"""How figures, bounds, cases and foreign text are written, the same in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.report.downstream import SetFigure
    from deploy_robust.report.records import CaseRef, OutcomeRow

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

_SYMBOLS = {"at_least": "\N{GREATER-THAN OR EQUAL TO}", "at_most": "\N{LESS-THAN OR EQUAL TO}"}


def printable(text: str) -> str:
    r"""The text with everything that a terminal, a browser or a reader could take for something else written out.

    Control characters, terminal escapes, line breaks, marks that turn the direction of writing and undecodable bytes
    of file names become ``\x1b``, ``\u202e``, ...; whatever a format needs to escape besides is its own business.
    """
    return "".join(c if c.isprintable() or c == NBSP else c.encode("unicode_escape").decode() for c in text)


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A figure with a real minus sign; a dash where there is none."""
    if value is None:
        return NOTHING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # no sign on zero
    return text.replace("-", MINUS)


def digits_of(quantity_unit: str, scale: float | None = None) -> int:
    """Decimals worth printing: two for decibels, four for SSIM and differences between images, none for counts."""
    if quantity_unit == "dB":
        return 2
    return 0 if scale is not None and scale == int(scale) else 4


def with_unit(text: str, unit: str) -> str:
    """A figure and its unit, joined so that no line breaks between them."""
    return f"{text}{NBSP}{unit}" if unit and text != NOTHING else text


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """The two ends in brackets; an unbounded end is written as infinity."""
    left = f"{MINUS}\N{INFINITY}" if low is None else number(low, digits)
    right = "\N{INFINITY}" if high is None else number(high, digits)
    return f"[{left}, {right}]"


def epsilon(level: float) -> str:
    """An epsilon as fractions of 255 are written; ``clean`` for zero."""
    return f"{level:g}/255" if level else "clean"


def epsilons(levels: Sequence[float]) -> str:
    """Several of them: ``1, 2 and 4/255``."""
    names = [f"{level:g}" for level in levels]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) + "/255"


def bound(row: OutcomeRow) -> str:
    """What the requirement asks for: a comparison, or a range."""
    if row.at_least is not None and row.at_most is not None:
        if row.at_least == -row.at_most:
            return with_unit(f"\N{PLUS-MINUS SIGN}{row.at_most:g}", row.unit)
        low, high = (f"{limit:g}".replace("-", MINUS) for limit in (row.at_least, row.at_most))
        return with_unit(f"{low} to {high}", row.unit)
    name, limit = ("at_least", row.at_least) if row.at_least is not None else ("at_most", row.at_most)
    if limit is None:
        return NOTHING
    return with_unit(f"{_SYMBOLS[name]} {limit:g}".replace("-", MINUS), row.unit)


def measured(row: OutcomeRow) -> str:
    """The statistic with its unit; ``identical`` where it is infinite."""
    if row.identical:
        return "identical"
    return with_unit(number(row.value, digits_of(row.unit, _count(row))), row.unit)


def measured_interval(row: OutcomeRow) -> str:
    """The interval of a mean or a rate; empty for a minimum or maximum, unless rounding leaves it open."""
    if row.value is None or (row.statistic in ("min", "max") and row.low == row.high):
        return ""
    return interval(row.low, row.high, digits_of(row.unit))


def margin(row: OutcomeRow) -> str:
    """Signed distance from the bound, positive on the good side."""
    if row.margin is None:
        return NOTHING
    return with_unit(number(row.margin, digits_of(row.unit, _count(row)), signed=True), row.unit)


def case_name(case: CaseRef) -> str:
    """A case in words, safe to print anywhere that escapes its own markup."""
    pair = printable(case.pair)
    return f"{pair}, {printable(case.attack)} at {epsilon(case.level)}" if case.level else f"{pair}, clean"


def metric_name(metric: str) -> str:
    """A downstream metric as it is written."""
    return {"miou": "mIoU", "ap": "AP", "ap50": "AP50"}.get(metric, metric)


def set_interval(figure: SetFigure) -> str:
    """The interval of a figure over a set, to three decimals."""
    return interval(figure.low, figure.high, 3)


def requirement_name(row: OutcomeRow) -> str:
    """A requirement with its epsilon; parity lines name their figure, because they share one name."""
    name = row.requirement if row.requirement != "parity" else f"parity ({row.quantity})"
    return printable(name) + (f" at {epsilon(row.level)}" if row.level is not None else "")


def _count(row: OutcomeRow) -> float | None:
    """The value of a quantity that counts things, so that it is printed without decimals."""
    return row.value if row.quantity == "defects" else None
