"""The use case `verify`: a failure rate under attack by queries alone, tested by betting.

It is a check with a generated policy: the same runner, store, verdict and reports.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.check import CheckRequest, check
from deploy_robust.app.pairs import PHOTOS, SCENES
from deploy_robust.app.terms import ATTACKED
from deploy_robust.errors import UsageError
from deploy_robust.gate.policy import DEFAULT, Policy, load_policy
from deploy_robust.gate.quantities import INDEPENDENT_ROWS, REPEATABLE, quantity
from deploy_robust.gate.records import FAILURE_RATE, Requirement

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.app.judge import CheckResult
    from deploy_robust.app.screen import Standings

SUITE = ("corners", "local-credit")
"""Attacks of the generated policy, cheap ones first."""

UNITS_PER_RATE = 30
"""Units at most are so many over p0: a failure rate of half of p0 then passes seven times in ten."""


@dataclass(frozen=True, slots=True)
class Property:
    """What every unit must keep under attack.

    Attributes:
        quantity: Name of a quantity that is measured per epsilon.
        at_least: Lower bound in its unit, if there is one.
        at_most: Upper bound, if there is one.
    """

    quantity: str = "attacked-gain"
    at_least: float | None = 0.0
    at_most: float | None = None


NO_HARM = Property()
"""Under attack the output is no worse than the rain itself."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be shown: this suite at this budget breaks this property on less than p0 of the units.

    Attributes:
        p0: The failure rate that separates PASS from FAIL.
        alpha: Probability of a wrong PASS, and of a wrong FAIL.
        levels: Epsilons in grey levels; the claim must hold at each of them.
        keeps: The property.
        queries: Queries of each search on each unit and epsilon.
        suite: Names of attacks.
        attempt: Which test of this claim on these units it is, counted from 1; 0 where it is the only one.
    """

    p0: float = 0.05
    alpha: float = 0.05
    levels: tuple[float, ...] = (1.0,)
    keeps: Property = NO_HARM
    queries: int = 100
    suite: tuple[str, ...] = SUITE
    attempt: int = 0

    def policy(self) -> Policy:
        """The policy that asks for it, with the parity of the default one: a damaged engine looks robust.

        Raises:
            UsageError: A number is out of range, or there is no such attack.
        """
        for name, value in (("p0", self.p0), ("alpha", self.alpha)):
            if not 0 < value < 1:
                raise UsageError(f"{name} lies between 0 and 1, like 0.05 (got {value:g})")
        line = Requirement(
            name="failure-rate",
            quantity=self.keeps.quantity,
            statistic=FAILURE_RATE,
            levels=self.levels,
            at_least=self.keeps.at_least,
            at_most=self.keeps.at_most,
            confidence=1 - self.alpha,
            p0=self.p0,
        )
        default = load_policy(DEFAULT)
        asked = [each for each in default.requirements if each.quantity in (INDEPENDENT_ROWS, REPEATABLE)]
        return replace(
            default,
            name="verify",
            minimum_scenes=1,
            levels=self.levels,
            attacks={name: self._settings(name) for name in self.suite},
            requirements=(line, *_attacked_parity(self.levels), *asked),
            scopes={},
            places={},
            attempt=self.attempt,
        )

    def units(self) -> int:
        """Units of a stream at most, where nobody says otherwise."""
        return math.ceil(UNITS_PER_RATE / self.p0)

    def _settings(self, name: str) -> dict[str, Any]:
        from deploy_robust.attacks.registry import ATTACKS

        known = inspect.signature(ATTACKS[name]).parameters
        # No early stop: a search sees the whole image in floats, and the figure that decides is rounded and shaved.
        return {"queries": self.queries} if "queries" in known else {}


def _attacked_parity(levels: tuple[float, ...]) -> tuple[Requirement, ...]:
    """The lines of the default policy on parity under attack, at these epsilons, on any number of units."""
    lines = (line for line in load_policy(DEFAULT).requirements if line.quantity in ATTACKED)
    return tuple(replace(line, levels=levels, minimum_pairs=1) for line in lines)


def request_of(claim: Claim, request: CheckRequest) -> CheckRequest:
    """The check that decides a claim: a stream gets its number of units, if none was given."""
    pairs = request.pairs
    if pairs.what == SCENES and pairs.limit is None:
        pairs = replace(pairs, limit=claim.units())
    if pairs.unpaired and quantity(claim.keeps.quantity).needs_truth:
        raise UsageError("the images have no ground truth: bound what an attack moves with --min-drift, like 20")
    if pairs.what == PHOTOS and pairs.limit is None:
        raise UsageError(f"{PHOTOS} are a finite set of crops: say how many with --units")
    return replace(request, pairs=pairs, policy=claim.policy(), command="verify")


def verify(
    claim: Claim,
    request: CheckRequest,
    *,
    on_progress: Callable[[int, int | None], None] | None = None,
    on_standing: Callable[[Standings], None] | None = None,
) -> CheckResult:
    """Tests a claim about an engine.

    Args:
        claim: What is to be shown.
        request: Engine, units, run folder; its policy is not looked at.
        on_progress: Called with the number of cases done and the number planned.
        on_standing: Called with where the test stands.

    Raises:
        DeployRobustError: Something that the user named cannot be used; the message says what to do.
    """
    return check(request_of(claim, request), on_progress=on_progress, on_standing=on_standing)
