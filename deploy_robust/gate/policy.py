"""Policies: what an engine must show, read from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from deploy_robust.boundary import MalformedError, line_of, parse_toml, read_text, shown, validated
from deploy_robust.errors import PolicyError
from deploy_robust.gate.quantities import QUANTITIES, quantity
from deploy_robust.gate.records import (
    DATASET,
    DEFAULT_CAP,
    FAILURE_RATE,
    MEAN_AT_LEAST,
    Limits,
    Requirement,
    Statistic,
)
from deploy_robust.registry import instead_of

SCHEMA_VERSION = 1
DEFAULT = "default"
SHIPPED = (DEFAULT, "unpaired")

_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
BOUNDED = ("clean-psnr", "attacked-psnr", "drift")
"""Quantities whose losses are bounded: PSNR of images that are cut to [0, 1] is never negative."""

_SCOPE = ("levels", "pairs")

PARITY = "parity"
"""Name of the requirements that come from the table of that name."""

Count = Annotated[int, Ge(0)]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an attack of a policy is run, if not everywhere.

    Attributes:
        levels: Epsilons in grey levels; empty for all of the policy's.
        pairs: So many of the run's pairs, spread evenly over them; None for all.
    """

    levels: tuple[float, ...] = ()
    pairs: Annotated[int, Ge(1)] | None = None

    def chosen(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The pairs that the attack sees, of all in their order."""
        if self.pairs is None or self.pairs >= len(ids):
            return tuple(ids)
        return tuple(ids[index * len(ids) // self.pairs] for index in range(self.pairs))


@dataclass(frozen=True, slots=True)
class Policy:
    """What an engine must show.

    Attributes:
        name: Name in reports.
        minimum_scenes: Fewer independent scenes cannot PASS.
        levels: Epsilons in grey levels that every image is attacked at.
        camera_bits: Bits to which attacked images are rounded.
        attacks: Attack name to its settings; each image counts at its worst over them.
        parity_pairs: Fewer clean pairs cannot PASS parity.
        parity: Precision to the lower bounds of ``fidelity`` and ``conversion`` (dB) and the upper one of
            ``conversion_max_abs``.
        requirements: The lines besides parity.
        places: Attack name to where the policy says it, for messages about its settings.
        attempt: For lines that are decided by betting: which test of the same claim on the same units this is, counted
            from 1; 0 where it is the only one.
        scopes: Attack name to where it is run; attacks that are not named run on every pair at every epsilon.
    """

    name: str
    minimum_scenes: int
    levels: tuple[float, ...]
    camera_bits: int
    attacks: Mapping[str, Mapping[str, Any]]
    parity_pairs: int
    parity: Mapping[str, Mapping[str, float]]
    requirements: tuple[Requirement, ...]
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    attempt: int = 0
    scopes: Mapping[str, Scope] = field(default_factory=dict)

    def for_engine(self, precision: str, references: Collection[str]) -> tuple[Requirement, ...]:
        """All requirements on an engine: parity against the references that exist, then the lines of the policy.

        Args:
            precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``.
            references: Parity figures that can be measured: ``fidelity``, ``conversion``.

        Raises:
            PolicyError: The policy has no parity bounds for that precision.
        """
        if references and precision not in self.parity:
            raise PolicyError(
                f"policy {self.name} has no parity bounds for a {precision} engine: add parity.{precision} to it"
            )
        bounds = self.parity.get(precision, {})
        lines = []
        for figure, bound in bounds.items():
            if figure.removesuffix("_max_abs") not in references:
                continue
            largest = figure.endswith("_max_abs")
            lines.append(
                Requirement(
                    name=PARITY,
                    quantity=figure.replace("_", "-"),
                    statistic="max" if largest else "min",
                    at_least=None if largest else bound,
                    at_most=bound if largest else None,
                    minimum_pairs=self.parity_pairs,
                )
            )
        return (*lines, *(line for each in self.requirements if (line := each.at(precision)) is not None))

    def unbounded(self, precision: str) -> tuple[str, ...]:
        """Names of requirements that judge other precisions only; their figures are reported."""
        return tuple(dict.fromkeys(each.name for each in self.requirements if each.at(precision) is None))

    @property
    def needs(self) -> tuple[str, ...]:
        """Downstream tasks and optional metrics that its requirements ask for."""
        return tuple(dict.fromkeys(need for line in self.requirements if (need := quantity(line.quantity).needs)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the run's plan and report; what was not made use of is left out, as in older runs."""
        data = {key: value for key, value in dataclasses.asdict(self).items() if key != "places"}
        for line in data["requirements"]:
            if not line["by_precision"]:
                del line["by_precision"]
        if not self.scopes:
            del data["scopes"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """A policy from what `to_dict` gave, also by way of JSON.

        Raises:
            MalformedError: It is none.
        """
        policy = validated(cls, data)
        for index, line in enumerate(policy.requirements):
            if line.quantity not in QUANTITIES:
                raise MalformedError(f"is not usable: requirements[{index}].quantity is none: {shown(line.quantity)}")
            if line.at_least is None and line.at_most is None and not line.by_precision:
                raise MalformedError(f"is not usable: requirements[{index}] has no bound")
        return policy


@dataclass(frozen=True, slots=True)
class ThreatTable:
    """The table ``threat`` of a policy."""

    levels: tuple[float, ...] = ()
    camera_bits: int = 8


@dataclass(frozen=True, slots=True)
class ParityBounds:
    """The bounds of a precision in the table ``parity``; what is left out is not bounded."""

    fidelity: float | None = None
    conversion: float | None = None
    conversion_max_abs: float | None = None


@dataclass(frozen=True, slots=True)
class ParityTable:
    """The table ``parity``: the fewest clean pairs, and bounds by precision."""

    minimum_pairs: Count = 1
    fp32: ParityBounds | None = None
    fp16: ParityBounds | None = None
    bf16: ParityBounds | None = None
    int8: ParityBounds | None = None
    fp8: ParityBounds | None = None

    def bounds(self) -> dict[str, dict[str, float]]:
        """Precision to figure to bound, of those that are given."""
        given = {name: getattr(self, name) for name in _PRECISIONS if getattr(self, name) is not None}
        return {name: _given(bounds) for name, bounds in given.items()}


@dataclass(frozen=True, slots=True)
class PrecisionBounds:
    """A bound that depends on what the engine computes in."""

    fp32: float | None = None
    fp16: float | None = None
    bf16: float | None = None
    int8: float | None = None
    fp8: float | None = None


@dataclass(frozen=True, slots=True)
class RequirementTable:
    """One ``[[requirement]]`` as the file spells it; see `Requirement`."""

    name: Annotated[str, MinLen(1)]
    quantity: str
    statistic: Statistic = "mean"
    levels: tuple[float, ...] = ()
    at_least: float | PrecisionBounds | None = None
    at_most: float | PrecisionBounds | None = None
    confidence: float = 0.95
    minimum_pairs: Count = 1
    gates: bool = True
    p0: float | None = None
    cap: float = DEFAULT_CAP

    def by_precision(self) -> dict[str, Limits]:
        """Lower and upper bound of each precision that a table names."""
        low, high = (
            _given(each) if isinstance(each, PrecisionBounds) else {} for each in (self.at_least, self.at_most)
        )
        return {name: (low.get(name), high.get(name)) for name in _PRECISIONS if name in low or name in high}


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """A policy as its file spells it."""

    schema: int
    name: str | None = None
    minimum_scenes: Count = 1
    attempt: Count = 0
    threat: ThreatTable = field(default_factory=ThreatTable)
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parity: ParityTable = field(default_factory=ParityTable)
    requirement: tuple[RequirementTable, ...] = ()


def _given(table: Any) -> dict[str, float]:
    """What is given of a table whose fields are optional."""
    return {key: value for key, value in dataclasses.asdict(table).items() if value is not None}


def load_policy(source: str | Path | Policy) -> Policy:
    """Reads a policy by its shipped name (`SHIPPED`) or from a TOML file; one that is read already is returned.

    Raises:
        PolicyError: The file is missing or malformed; the message names the line, the place and the nearest right key.
    """
    if isinstance(source, Policy):
        return source
    try:
        if str(source) in SHIPPED:
            where = f"policy {source}"
            text = files("deploy_robust.gate").joinpath(f"policies/{source}.toml").read_text(encoding="utf-8")
        else:
            where, text = str(source), read_text(Path(source))
    except MalformedError as error:
        raise PolicyError(f"the policy {source} {error}; shipped are {', '.join(SHIPPED)}") from error
    return _Reader(where, text).policy()


def betting_complaint(line: Requirement) -> str:
    """What is wrong with a line as one that is decided by betting, or with keys that only such lines have."""
    if line.statistic == FAILURE_RATE:
        if line.p0 is None or not 0 < line.p0 < 1:
            return f"a failure_rate needs p0, a rate between 0 and 1, like 0.05 (got {line.p0})"
    elif line.p0 is not None:
        return "p0 belongs to the statistic failure_rate"
    if line.statistic == MEAN_AT_LEAST:
        if line.quantity not in BOUNDED:
            return f"mean_at_least needs a quantity that is never negative: one of {', '.join(BOUNDED)}"
        if line.at_most is not None or line.at_least is None or not 0 < line.at_least < line.cap:
            return f"mean_at_least needs at_least, between 0 and its cap of {line.cap:g}, and no at_most"
    elif line.cap != DEFAULT_CAP:
        return "cap belongs to the statistic mean_at_least"
    return ""


class _Reader:
    """Turns TOML text into a `Policy`; every complaint names the file, the line and what would be right."""

    def __init__(self, where: str, text: str) -> None:
        self._where = where
        self._text = text
        self._names: set[str] = set()

    def policy(self) -> Policy:
        try:
            data = parse_toml(self._text)
            if type(data.get("schema")) is not int or data["schema"] != SCHEMA_VERSION:
                raise self._error(("schema",), f"schema must be {SCHEMA_VERSION} (got {shown(data.get('schema'))})")
            table = validated(PolicyTable, data)
        except MalformedError as error:
            if not error.problems:
                raise PolicyError(f"{self._where} {error}") from error
            raise self._error(error.problems[0].place, "; ".join(p.said for p in error.problems[:3])) from error
        if table.threat.camera_bits != 8:
            bits = table.threat.camera_bits
            raise self._error(
                ("threat", "camera_bits"), f"camera_bits must be 8 (got {bits}): other cameras are not supported"
            )
        levels = self._levels(table.threat.levels, ("threat", "levels"))
        if not table.requirement:
            complaint = "a policy needs at least one [[requirement]]: nothing would be judged"
            raise self._error(("requirement",), complaint)
        lines = tuple(self._requirement(index, line, levels) for index, line in enumerate(table.requirement))
        attacks, scopes = self._attacks(table.attacks, levels)
        if scopes and any(line.by_betting for line in lines):
            complaint = "a line by betting needs every attack on every unit: leave out pairs and levels"
            raise self._error(("attacks", next(iter(scopes))), complaint)
        return Policy(
            name=Path(self._where).stem if table.name is None else table.name,
            minimum_scenes=table.minimum_scenes,
            levels=levels,
            camera_bits=table.threat.camera_bits,
            attacks=attacks,
            parity_pairs=table.parity.minimum_pairs,
            parity=table.parity.bounds(),
            requirements=lines,
            places={name: self._place(("attacks", name)) for name in attacks},
            attempt=table.attempt,
            scopes=scopes,
        )

    def _attacks(
        self, tables: Mapping[str, Mapping[str, Any]], levels: tuple[float, ...]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Scope]]:
        """Settings of each attack, and the scope of those that have one."""
        attacks: dict[str, dict[str, Any]] = {}
        scopes: dict[str, Scope] = {}
        for name, table in tables.items():
            attacks[name] = {key: value for key, value in table.items() if key not in _SCOPE}
            if attacks[name].keys() == table.keys():
                continue
            try:
                scope = validated(Scope, {key: value for key, value in table.items() if key in _SCOPE})
            except MalformedError as error:
                place = ("attacks", name, *error.problems[0].place)
                raise self._error(place, f"attack {name}: {error.problems[0].said}") from error
            self._levels(scope.levels, ("attacks", name, "levels"))
            self._among(scope.levels, levels, ("attacks", name), f"attack {name}")
            scopes[name] = scope
        return attacks, scopes

    def _among(self, asked: tuple[float, ...], levels: tuple[float, ...], place: Place, who: str) -> None:
        if missing := sorted(set(asked) - set(levels)):
            text = ", ".join(f"{level:g}" for level in missing)
            raise self._error(place, f"{who} asks for epsilon {text}: not in threat.levels")

    def _requirement(self, index: int, line: RequirementTable, levels: tuple[float, ...]) -> Requirement:
        place: Place = ("requirement", index)
        who = f"requirement {line.name}"
        if line.name == PARITY:
            complaint = "a requirement named parity would be taken for those of the table [parity]: rename it"
            raise self._error((*place, "name"), complaint)
        if line.name in self._names:
            raise self._error((*place, "name"), f"two requirements are named {line.name!r}: rename one")
        self._names.add(line.name)
        if line.quantity not in QUANTITIES:
            complaint = f"unknown quantity {line.quantity!r}: {instead_of(line.quantity, QUANTITIES)}"
            raise self._error((*place, "quantity"), complaint)
        by_precision = line.by_precision()
        bounds = [None if isinstance(each, PrecisionBounds) else each for each in (line.at_least, line.at_most)]
        if by_precision and bounds != [None, None]:
            raise self._error((*place, "name"), f"{who}: give both bounds by precision, or neither")
        if bounds == [None, None] and not by_precision:
            raise self._error((*place, "name"), f"{who} needs at_least or at_most")
        if not 0 < line.confidence < 1:
            complaint = f"confidence must lie between 0 and 1 (got {line.confidence})"
            raise self._error((*place, "confidence"), complaint)
        at = self._levels(line.levels, (*place, "levels"))
        if quantity(line.quantity).per_level != bool(at):
            need = "needs levels, like [1, 2, 4]" if not at else "is measured on clean images and takes no levels"
            raise self._error((*place, "quantity"), f"{who}: {line.quantity} {need}")
        self._among(at, levels, (*place, "name"), who)
        requirement = Requirement(
            name=line.name,
            quantity=line.quantity,
            statistic=line.statistic,
            levels=at,
            at_least=bounds[0],
            at_most=bounds[1],
            confidence=line.confidence,
            minimum_pairs=line.minimum_pairs,
            gates=line.gates,
            p0=line.p0,
            cap=line.cap,
            by_precision=by_precision,
        )
        if by_precision and requirement.by_betting:
            raise self._error((*place, "name"), f"{who}: a line by betting has one bound for all engines")
        if line.statistic == DATASET and quantity(line.quantity).pooled is None:
            known = ", ".join(name for name, each in QUANTITIES.items() if each.pooled is not None)
            complaint = f"there is no {line.quantity} over a dataset: the statistic dataset goes with {known}"
            raise self._error((*place, "name"), f"{who}: {complaint}")
        if complaint := betting_complaint(requirement):
            raise self._error((*place, "name"), f"{who}: {complaint}")
        return requirement

    def _levels(self, levels: tuple[float, ...], place: Place) -> tuple[float, ...]:
        for level in levels:
            if not 0 < level < 255:
                complaint = f"levels must be epsilons in grey levels, above 0 and below 255 (got {level:g})"
                raise self._error(place, complaint)
            if level != int(level):
                raise self._error(
                    place,
                    f"epsilon {level}/255 is fractional and the camera rounds to 8 bits: the rounded image could leave "
                    "its ball; use whole grey levels",
                )
            if levels.count(level) > 1:
                raise self._error(place, f"levels holds {level:g} twice: name each epsilon once")
        return levels

    def _error(self, place: Place, complaint: str) -> PolicyError:
        return PolicyError(f"{self._place(place)}: {complaint}")

    def _place(self, place: Place) -> str:
        """The file and the line of a place in it."""
        line = line_of(self._text, place)
        return self._where if line is None else f"{self._where}, line {line}"
