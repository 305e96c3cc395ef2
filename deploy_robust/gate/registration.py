"""What is fixed before the first query of a test by betting, and kept with the run: nothing of it is chosen later."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from deploy_robust.boundary import validated
from deploy_robust.statistics.betting import spent_alpha

if TYPE_CHECKING:
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Requirement

Population = Literal["stream", "set"]
"""A stream gives fresh independent units for ever; a set has these images and no others."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A test that was registered.

    Attributes:
        population: ``stream`` or ``set``.
        source: Where units come from, in words.
        order: Ids of pairs in the order in which they count; as many as may be used at most, N_max.
        attempt: Which test of the same claim on the same units this is, counted from 1; 0 where it is the only one.
        tests: Lines and epsilons that are decided by betting; they share the probability of a wrong FAIL.
        suite: The attacks with their settings, in words.
        basis: SHA-256 over suite, epsilons, lines, seed, source and attempt.
        digest: SHA-256 over the basis and the order of units.
        grown: (units, digest) of the registrations that this one continues with fresh units, the oldest first.
    """

    population: Population
    source: str
    order: tuple[str, ...]
    attempt: int
    tests: int
    suite: str
    basis: str
    digest: str
    grown: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(
        cls,
        policy: Policy,
        *,
        population: Population,
        source: str,
        identity: Mapping[str, Any],
        order: Sequence[str],
        seed: int,
    ) -> Registration | None:
        """Registers the lines of a policy that are decided by betting; None where there are none.

        Args:
            policy: What is asked for.
            population: What kind of source the units come from.
            source: That source in words.
            identity: Everything that its bytes depend on.
            order: Ids of pairs, as they will count.
            seed: All random draws are keyed by it.
        """
        lines = [line for line in policy.requirements if line.by_betting]
        if not lines:
            return None
        fixed = {
            "attacks": {name: dict(settings) for name, settings in policy.attacks.items()},
            "levels": list(policy.levels),
            "lines": [dataclasses.asdict(line) for line in lines],
            "population": population,
            "identity": dict(identity),
            "seed": seed,
            "attempt": policy.attempt,
        }
        basis = _digest(fixed)
        digest = _digest([basis, list(order)])
        tests = sum(len(line.levels) or 1 for line in lines)
        return cls(population, source, tuple(order), policy.attempt, tests, _in_words(policy), basis, digest)

    @property
    def total(self) -> int | None:
        """Units of a finite set; None for a stream."""
        return len(self.order) if self.population == "set" else None

    def alphas(self, line: Requirement) -> tuple[float, float]:
        """Probabilities of a wrong PASS and of a wrong FAIL that a line may use in this attempt.

        A run passes only where every line does, so that each may use all of alpha (Berger 1982); it fails where any
        line does, so that they share it.
        """
        alpha = round(1 - line.confidence, 12)
        if self.attempt:
            alpha = spent_alpha(alpha, self.attempt)
        return alpha, alpha / self.tests

    def continuing(self, earlier: Registration) -> Registration | None:
        """This registration as a continuation of an earlier one with more units; None where it is another test."""
        count = len(earlier.order)
        same = dataclasses.replace(self, order=earlier.order, digest=earlier.digest, grown=earlier.grown) == earlier
        if self.population != "stream" or not same or len(self.order) < count or self.order[:count] != earlier.order:
            return None
        if len(self.order) == count:
            return earlier
        return dataclasses.replace(self, grown=(*earlier.grown, (count, earlier.digest)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the run's plan."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Registration:
        """Inverse of `to_dict`; accepts JSON-decoded data.

        Raises:
            MalformedError: It is none.
        """
        return validated(cls, data)


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _in_words(policy: Policy) -> str:
    attacks = []
    for name, settings in policy.attacks.items():
        values = ", ".join(f"{key} {value}" for key, value in settings.items())
        attacks.append(f"{name} ({values})" if values else name)
    return "; ".join(attacks) or "no attack"
