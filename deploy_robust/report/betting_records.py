"""What a report says of tests by betting and of the searches behind them, as plain frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy_robust.report.records import CaseRef


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A unit that failed, at its worst.

    Attributes:
        case: Pair, attack and epsilon.
        image: SHA-256 of the attacked 8-bit image in the store; empty where it was not kept.
        value: The tested quantity there; None for a defect.
        defect: What went wrong instead of an answer; empty for an answer.
    """

    case: CaseRef
    image: str
    value: float | None
    defect: str


@dataclass(frozen=True, slots=True)
class BettingTest:
    """One line by betting at one epsilon. Wealth is given as its decimal logarithm.

    Attributes:
        requirement: Name of the line.
        level: Epsilon in grey levels; None for clean quantities.
        claim: What may be said.
        units: Units that count: up to the decision, in the registered order.
        losses: X of each of them, in [0, 1].
        exact: Whether the decision is certain, for a finite set.
        wealth_pass: After each unit; None where all was lost, or where the other claim became impossible.
        wealth_fail: Likewise; empty for a finite set, which does not bet on a FAIL.
        bar_pass: The logarithm that decides for a PASS.
        bar_fail: The one that decides for a FAIL; None for a finite set.
        counterexamples: Every unit that failed, for a failure rate.
    """

    requirement: str
    level: float | None
    claim: str
    units: int
    losses: tuple[float, ...]
    exact: bool
    wealth_pass: tuple[float | None, ...]
    wealth_fail: tuple[float | None, ...]
    bar_pass: float
    bar_fail: float | None
    counterexamples: tuple[Counterexample, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """What was fixed before the first query.

    Attributes:
        population: ``stream`` or ``set``.
        source: Where units come from, in words.
        most: Units at most.
        suite: The attacks with their settings, in words.
        attempt: Which test of the claim on these units it is; 0 where it is the only one.
        digest: SHA-256 of the registration.
        continued: (units, digest) of the registrations that it continues.
        units_spent: Units that were attacked.
        queries_spent: Queries of the engine that searches have spent, probes included.
    """

    population: str
    source: str
    most: int
    suite: str
    attempt: int
    digest: str
    continued: tuple[tuple[int, str], ...]
    units_spent: int
    queries_spent: int


@dataclass(frozen=True, slots=True)
class Search:
    """The lowest PSNR that a search knew after so many queries, as it saw it: whole images, unrounded.

    Attributes:
        attack: Name of the search.
        level: Epsilon in grey levels.
        queries: Numbers of queries, ascending.
        mean: Mean over units at each of them, in dB.
        lowest: Smallest.
        units: Pair id to its values.
    """

    attack: str
    level: float
    queries: tuple[int, ...]
    mean: tuple[float, ...]
    lowest: tuple[float, ...]
    units: dict[str, tuple[float, ...]]
