"""Policies: what an engine must show, read from TOML."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from deploy_robust.errors import PolicyError
from deploy_robust.gate.quantities import QUANTITIES, quantity
from deploy_robust.gate.records import DATASET, DEFAULT_CAP, FAILURE_RATE, MEAN_AT_LEAST, Requirement, Statistic
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SCHEMA_VERSION = 1
DEFAULT = "default"
SHIPPED = (DEFAULT, "unpaired")

_TOP = ("schema", "name", "minimum_scenes", "attempt", "threat", "attacks", "parity", "requirement")
_THREAT = ("levels", "camera_bits")
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
_STATISTICS = get_args(Statistic)
BOUNDED = ("clean-psnr", "attacked-psnr", "drift")
"""Quantities whose losses are bounded: PSNR of images that are cut to [0, 1] is never negative."""

_BOUNDS = ("fidelity", "conversion", "conversion_max_abs")
_REQUIREMENT = tuple(f.name for f in dataclasses.fields(Requirement) if f.name != "by_precision")
_SCOPE = ("levels", "pairs")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an attack of a policy is run, if not everywhere.

    Attributes:
        levels: Epsilons in grey levels; empty for all of the policy's.
        pairs: So many of the run's pairs, spread evenly over them; None for all.
    """

    levels: tuple[float, ...] = ()
    pairs: int | None = None

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
                    name="parity",
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
        """A policy from what `to_dict` gave, also by way of JSON."""
        lines = [
            Requirement(
                **{
                    **line,
                    "levels": tuple(line["levels"]),
                    "by_precision": {name: tuple(limits) for name, limits in line.get("by_precision", {}).items()},
                }
            )
            for line in data["requirements"]
        ]
        scopes = {name: Scope(tuple(scope["levels"]), scope["pairs"]) for name, scope in data.get("scopes", {}).items()}
        return cls(**{**data, "levels": tuple(data["levels"]), "requirements": tuple(lines), "scopes": scopes})


def load_policy(source: str | Path | Policy) -> Policy:
    """Reads a policy by its shipped name (`SHIPPED`) or from a TOML file; one that is read already is returned.

    Raises:
        PolicyError: The file is missing or malformed; the message names the line and the nearest right key.
    """
    if isinstance(source, Policy):
        return source
    if str(source) in SHIPPED:
        where, text = f"policy {source}", files("deploy_robust.gate").joinpath(f"policies/{source}.toml").read_text()
    else:
        where = str(source)
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"cannot read the policy {source}: {error}; shipped are {', '.join(SHIPPED)}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{where} is not TOML: {error}") from error
    return _Reader(where, text).policy(data)


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
    """Turns TOML data into a `Policy`; every complaint names the file, the line and what would be right."""

    def __init__(self, where: str, text: str) -> None:
        self._where = where
        self._lines = text.splitlines()

    def policy(self, data: dict[str, Any]) -> Policy:
        self._known(data, _TOP)
        if data.get("schema") != SCHEMA_VERSION:
            raise self._error("schema", f"schema must be {SCHEMA_VERSION} (got {data.get('schema')!r})")
        threat = self._get(data, "threat", dict, {})
        self._known(threat, _THREAT)
        parity = dict(self._get(data, "parity", dict, {}))
        pairs = self._get(parity, "minimum_pairs", int, 1)
        parity.pop("minimum_pairs", None)
        self._known(parity, _PRECISIONS)
        for precision in parity:
            bounds = self._get(parity, precision, dict, {})
            self._known(bounds, _BOUNDS)
            for figure in bounds:
                self._get(bounds, figure, float, 0.0)
        bits = self._get(threat, "camera_bits", int, 8)
        if bits != 8:
            raise self._error("camera_bits", f"camera_bits must be 8 (got {bits}): other cameras are not supported")
        levels = self._levels(threat, "levels")
        lines = self._get(data, "requirement", list, [])
        requirements = tuple(self._requirement(line, levels) for line in lines)
        attempt = self._get(data, "attempt", int, 0)
        if attempt < 0:
            raise self._error("attempt", f"attempts are counted from 1; 0 means that there is one only (got {attempt})")
        if not requirements:
            raise self._error("requirement", "a policy needs at least one [[requirement]]: nothing would be judged")
        attacks, scopes = self._attacks(data, levels)
        if scopes and any(line.by_betting for line in requirements):
            raise self._error(
                next(iter(scopes)), "a line by betting needs every attack on every unit: leave out pairs and levels"
            )
        return Policy(
            name=self._get(data, "name", str, Path(self._where).stem),
            minimum_scenes=self._get(data, "minimum_scenes", int, 1),
            levels=levels,
            camera_bits=bits,
            attacks=attacks,
            parity_pairs=pairs,
            parity=parity,
            requirements=requirements,
            places={name: self._place(name) for name in attacks},
            attempt=attempt,
            scopes=scopes,
        )

    def _attacks(
        self, data: dict[str, Any], levels: tuple[float, ...]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Scope]]:
        """Settings of each attack, and the scope of those that have one."""
        attacks: dict[str, dict[str, Any]] = {}
        scopes: dict[str, Scope] = {}
        for name, table in self._get(data, "attacks", dict, {}).items():
            if not isinstance(table, dict):
                raise self._error(name, f"attacks.{name} must be a table of settings, like [attacks.{name}]")
            attacks[name] = {key: value for key, value in table.items() if key not in _SCOPE}
            if attacks[name].keys() == table.keys():
                continue
            scopes[name] = scope = Scope(self._levels(table, "levels"), self._get(table, "pairs", int, None))
            self._among(scope.levels, levels, name, f"attack {name}")
            if scope.pairs is not None and scope.pairs < 1:
                raise self._error(name, f"attack {name}: pairs must be at least 1 (got {scope.pairs})")
        return attacks, scopes

    def _among(self, asked: tuple[float, ...], levels: tuple[float, ...], word: str, who: str) -> None:
        if missing := sorted(set(asked) - set(levels)):
            text = ", ".join(f"{level:g}" for level in missing)
            raise self._error(word, f"{who} asks for epsilon {text}: not in threat.levels")

    def _requirement(self, line: Any, levels: tuple[float, ...]) -> Requirement:
        if not isinstance(line, dict):
            raise self._error("requirement", "each requirement must be a table: [[requirement]]")
        self._known(line, _REQUIREMENT)
        for key in ("name", "quantity"):
            if key not in line:
                raise self._error("requirement", f"a requirement needs a {key}")
        if line["quantity"] not in QUANTITIES:
            word = line["quantity"]
            raise self._error(word, f"unknown quantity {word!r}: {instead_of(word, QUANTITIES)}")
        statistic = line.get("statistic", "mean")
        if statistic not in _STATISTICS:
            known = instead_of(str(statistic), _STATISTICS)
            raise self._error(str(statistic), f"unknown statistic {statistic!r}: {known}")
        low, high = (self._bound(line, key) for key in ("at_least", "at_most"))
        tables = [each for each in (low, high) if isinstance(each, dict)]
        by_precision = {
            precision: (self._of(low, precision), self._of(high, precision))
            for precision in _PRECISIONS
            if any(precision in table for table in tables)
        }
        bounds = [None if isinstance(each, dict) else each for each in (low, high)]
        if by_precision and bounds != [None, None]:
            raise self._error(line["name"], f"requirement {line['name']}: give both bounds by precision, or neither")
        if bounds == [None, None] and not by_precision:
            raise self._error(line["name"], f"requirement {line['name']} needs at_least or at_most")
        confidence = self._get(line, "confidence", float, 0.95)
        if not 0 < confidence < 1:
            raise self._error("confidence", f"confidence must lie between 0 and 1 (got {confidence})")
        at = self._levels(line, "levels") if "levels" in line else ()
        if quantity(line["quantity"]).per_level != bool(at):
            need = "needs levels, like [1, 2, 4]" if not at else "is measured on clean images and takes no levels"
            raise self._error(line["quantity"], f"requirement {line['name']}: {line['quantity']} {need}")
        self._among(at, levels, line["name"], f"requirement {line['name']}")
        requirement = Requirement(
            name=self._get(line, "name", str, ""),
            quantity=line["quantity"],
            statistic=statistic,
            levels=at,
            at_least=bounds[0],
            at_most=bounds[1],
            confidence=confidence,
            minimum_pairs=self._get(line, "minimum_pairs", int, 1),
            gates=self._get(line, "gates", bool, True),
            p0=self._get(line, "p0", float, None),
            cap=self._get(line, "cap", float, 40.0),
            by_precision=by_precision,
        )
        if by_precision and requirement.by_betting:
            raise self._error(
                line["name"], f"requirement {line['name']}: a line by betting has one bound for all engines"
            )
        if statistic == DATASET and quantity(requirement.quantity).pooled is None:
            known = ", ".join(name for name, each in QUANTITIES.items() if each.pooled is not None)
            complaint = f"there is no {requirement.quantity} over a dataset: the statistic dataset goes with {known}"
            raise self._error(line["name"], f"requirement {line['name']}: {complaint}")
        if complaint := betting_complaint(requirement):
            raise self._error(line["name"], f"requirement {line['name']}: {complaint}")
        return requirement

    def _bound(self, line: dict[str, Any], key: str) -> float | dict[str, float] | None:
        """A bound: one number, or a table of them by precision."""
        if not isinstance(line.get(key), dict):
            return self._get(line, key, float, None)  # type: ignore[no-any-return]
        table: dict[str, Any] = line[key]
        self._known(table, _PRECISIONS)
        return {precision: self._get(table, precision, float, None) for precision in table}

    @staticmethod
    def _of(bound: float | dict[str, float] | None, precision: str) -> float | None:
        return bound.get(precision) if isinstance(bound, dict) else None

    def _levels(self, table: dict[str, Any], key: str) -> tuple[float, ...]:
        levels: list[int | float] = self._get(table, key, list, [])
        for level in levels:
            if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 255:
                raise self._error(key, f"{key} must be epsilons in grey levels, above 0 and below 255 (got {level!r})")
            if level != int(level):
                raise self._error(
                    key,
                    f"epsilon {level}/255 is fractional and the camera rounds to 8 bits: the rounded image could leave "
                    "its ball; use whole grey levels",
                )
        return tuple(float(level) for level in levels)

    def _get(self, table: dict[str, Any], key: str, kind: Any, default: Any) -> Any:
        if key not in table:
            return default
        value: Any = table[key]
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise self._error(key, f"{key} must be a {_KIND_NAME[kind]} (got {value!r})")
        return float(value) if kind is float else value

    def _known(self, table: dict[str, Any], known: Collection[str]) -> None:
        for key in table:
            if key not in known:
                raise self._error(key, f"unknown key {key!r}: {instead_of(key, known)}")

    def _error(self, word: str, complaint: str) -> PolicyError:
        return PolicyError(f"{self._place(word)}: {complaint}")

    def _place(self, word: str) -> str:
        """The file, and the first line that says a word."""
        pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
        for number, line in enumerate(self._lines, start=1):
            if pattern.search(line.split("#")[0]):
                return f"{self._where}, line {number}"
        return self._where


_KIND_NAME = {dict: "table", list: "list", str: "string", int: "whole number", float: "number", bool: "boolean"}
