"""The index of an adversarial set: what each file is, where it came from and what it hashes to."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen

from deploy_robust.artefact.io_description import LARGEST_SIDE, SMALLEST_SIDE
from deploy_robust.boundary import AnyFigure, Holding, MalformedError, parse_json, versioned
from deploy_robust.errors import InputError

SCHEMA = 1
"""Version of the index's form; a reader refuses one that it does not know."""

INDEX = "set.json"
SUMS = "SHA256SUMS"
"""The hashes of all images once more, for ``sha256sum -c`` on a machine without Python."""

MOST_BYTES = 512 * 2**20
"""An index of more bytes is refused."""

INPUTS, TRUTH, LABELS = "inputs", "truth", "labels"

_FILE = re.compile(rf"(?:{INPUTS}|{TRUTH}|{LABELS})/[^/\\.][^/\\]*\.png")


Sha256 = Annotated[str, MinLen(1)]
Side = Annotated[int, Ge(SMALLEST_SIDE), Le(LARGEST_SIDE)]
GreyLevels = Annotated[float, Ge(0), Le(255)]


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Ground truth of a pair for a downstream task.

    Attributes:
        file: The classes' file, below the set; None where there are none.
        class_names: Name of each class.
        boxes: Label and corners of each object, as in `data.pairs.Box`.
    """

    file: str | None
    class_names: tuple[str, ...]
    boxes: tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A rainy image and its ground truth.

    Attributes:
        id: Of the pair, in the source that it came from.
        scene: The independent draw that it belongs to.
        size: (height, width) in pixels.
        input: The rainy image's file, below the set.
        pixels: SHA-256 of its shape and values (`gate.records.digest_of_image`).
        truth: The ground truth's file; None where there is none.
        labels: Of a downstream task, see `stored.labels`; None where there are none.
    """

    id: str
    scene: str
    size: tuple[Side, Side]
    input: str
    pixels: str
    truth: str | None
    labels: StoredLabels | None = None

    @property
    def files(self) -> list[str]:
        """Everything that belongs to the pair."""
        named = [self.input, self.truth, None if self.labels is None else self.labels.file]
        return [name for name in named if name is not None]


@dataclass(frozen=True, slots=True)
class StoredCase:
    """An attacked image.

    Attributes:
        pair: Id of the pair.
        attack: Name of the attack in the set.
        level: Epsilon in grey levels.
        input: The image's file, below the set.
        pixels: SHA-256 of its shape and values.
        largest: Largest change of a value, in grey levels.
        rms: Root-mean-square change over all values, in grey levels.
        share: Share of the pixels that changed.
        in_ball: Whether the 8-bit image lies in the attack's ball: ``largest``, for an L2 attack ``rms``, is at most
            the level.
        facts: What the attack observed on the network that it was crafted on.
    """

    pair: str
    attack: str
    level: GreyLevels
    input: str
    pixels: str
    largest: Annotated[int, Ge(0), Le(255)]
    rms: GreyLevels
    share: Annotated[float, Ge(0), Le(1)]
    in_ball: bool
    facts: Mapping[str, AnyFigure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredAttackRecord:
    """An attack of the set.

    Attributes:
        policy_name: Its name in a policy; an adaptive attack has that of the attack it adapts.
        access: What it needed: ``nothing``, ``gradients`` or ``queries``.
        against: Role of the network that it was crafted on; None for noise.
        network: Hash of that network: of its weights, its graph or its file.
        settings: Every setting, defaults included.
    """

    policy_name: str
    access: Literal["nothing", "gradients", "queries"]
    against: str | None
    network: str | None
    settings: Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class SetIndex:
    """Everything that is known of a set.

    Attributes:
        created_by: Version of deploy-robust.
        plan: SHA-256 of the plan of the run that crafted it.
        seed: All random draws were keyed by it.
        levels: Epsilons in grey levels; every attack has every pair at each of them, but searches.
        source: The network that white-box attacks were crafted on: name, hash, capabilities.
        engine: The engine that searches queried; None where there was none.
        literal: The engine's graph, read literally; None likewise.
        origin: The pair source: name, identity, whether it has ground truth.
        made: Threads, batch, versions.
        attacks: By name.
        pairs: In the order of the source.
        cases: By pair, attack and level, in the order in which they were crafted.
        files: Name below the set to SHA-256 of the file's bytes, of every file but the index and `SUMS`.
    """

    created_by: str
    plan: str
    seed: Annotated[int, Ge(0)]
    levels: tuple[GreyLevels, ...]
    source: Annotated[Mapping[str, Any], Holding(name=str, weights_sha256=str)]
    engine: Annotated[Mapping[str, Any], Holding(file=str, sha256=str)] | None
    literal: Mapping[str, Any] | None
    origin: Mapping[str, Any]
    made: Mapping[str, Any]
    attacks: Mapping[str, StoredAttackRecord]
    pairs: tuple[StoredPair, ...]
    cases: tuple[StoredCase, ...]
    files: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The file: JSON with the schema's version first, every number finite."""
        data = {"schema": SCHEMA, **dataclasses.asdict(self)}
        for case in data["cases"]:
            case["facts"] = {k: v if math.isfinite(v) else repr(v) for k, v in case["facts"].items()}
        return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode("ascii")

    def sums(self) -> bytes:
        """`SUMS` as ``sha256sum`` writes it."""
        return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(self.files.items())).encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> SetIndex:
        """The reverse.

        Raises:
            InputError: It is no index, of another schema, or damaged.
        """
        remedy = "copy the set again, or craft it again with `deploy-robust attack`"
        try:
            index = versioned(cls, parse_json(content, MOST_BYTES), SCHEMA)
            index._check()
        except MalformedError as error:
            raise InputError(f"{where} {error}: {remedy}") from error
        return index

    def _check(self) -> None:
        """Names lead nowhere but below the set, and every attack has every pair at every level, once."""
        used = [name for pair in self.pairs for name in pair.files]
        used += [case.input for case in self.cases]
        if sorted(used) != sorted(self.files):
            raise MalformedError("is damaged: its files are not those of its pairs and cases")
        if wrong := next((name for name in self.files if not _FILE.fullmatch(name)), None):
            raise MalformedError(f"is damaged: {wrong!r} is no name of a file in a set")
        wanted = {(p.id, name, level) for p in self.pairs for name in self.attacks for level in self.levels}
        found = [(case.pair, case.attack, case.level) for case in self.cases]
        # A policy may run a search on some pairs and epsilons only.
        some = {name for name, record in self.attacks.items() if record.access == "queries"}
        missing = wanted.difference(found)
        if (
            len(found) != len(set(found))
            or not wanted.issuperset(found)
            or any(name not in some for _, name, _ in missing)
        ):
            raise MalformedError("is damaged: its cases are not every attack on every pair at every level")
