"""The records of a comparison: one summary, which every format writes down."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.statistics.intervals import Interval

SCHEMA_VERSION = 1

WORST = "worst of all"
"""Column of each image at its worst over all attacks."""


def parity_figure(a: str, b: str) -> str:
    """Name under which a run stores how close the clean outputs of two networks are; `a` comes first in its plan."""
    return f"parity {a} | {b}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over images with its interval.

    Attributes:
        mean: The mean.
        low: Lower end; None where one image leaves it open.
        high: Upper end, likewise.
    """

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        """The same, with open ends as None, because JSON has no infinity."""
        return cls(interval.mean, *(end if math.isfinite(end) else None for end in (interval.low, interval.high)))


@dataclass(frozen=True, slots=True)
class Column:
    """One attack and what it is crafted on.

    Attributes:
        name: Name in the store.
        attack: Name in the policy.
        source: Name of the network that it is crafted on; None for noise, which looks at none.
        kind: ``torch``, ``literal``, ``engine`` or ``none``.
    """

    name: str
    attack: str
    source: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class EngineRow:
    """An engine, and what was found before it was attacked.

    Attributes:
        name: Its name in the comparison.
        file: Its file.
        sha256: Hash of that file.
        runtime: Name and version of what runs it.
        provider: Provider in use.
        precision: As the graph says.
        own: Name of the float32 network that it was made from; None where it is not known.
        literal: Name of the literal reading of its graph; None where there is none.
        clean: Mean PSNR in dB of its clean outputs; None without ground truth.
        parity: ``holds``, ``broken``, ``unproven`` (too few images) or ``unknown`` (no reference).
        void: Why its figures under attack say nothing; empty where they count.
        conversion_db: Lowest PSNR to its float32 network; None where there is none, or all outputs are identical.
        fidelity_db: Lowest PSNR to the literal reading of its graph, likewise.
        repeat_max_abs: Greatest difference between two answers to one image; above 0 it is not deterministic.
        rows_max_abs: Greatest difference between the answers in two rows of a batch.
        batch_max_abs: Greatest difference between an answer in a batch and the one alone.
        batch_db: The same as the lowest PSNR; None where all are identical.
        probed: Images that these were measured on.
        defects: Answers that were no image.
        verdict: ``PASS``, ``FAIL`` or ``INCONCLUSIVE`` under the policy, over all attacks of the comparison.
        sentence: The verdict in words.
    """

    name: str
    file: str
    sha256: str
    runtime: str
    provider: str
    precision: str
    own: str | None
    literal: str | None
    clean: float | None
    parity: str
    void: str
    conversion_db: float | None
    fidelity_db: float | None
    repeat_max_abs: float | None
    rows_max_abs: float | None
    batch_max_abs: float | None
    batch_db: float | None
    probed: int
    defects: int
    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A network that attacks are crafted on, or that engines are compared with.

    Attributes:
        name: Its name.
        kind: ``torch`` or ``literal``.
        weights_sha256: Hash of its weights or graph.
        attacks: Whether attacks are crafted on it.
        clean: Mean PSNR in dB of its clean outputs; None without ground truth.
    """

    name: str
    kind: str
    weights_sha256: str
    attacks: bool
    clean: float | None


@dataclass(frozen=True, slots=True)
class ParityCell:
    """Two networks on the same clean images.

    Attributes:
        a: One of them.
        b: The other.
        images: How many images.
        lowest_db: PSNR in dB between their outputs, peak 1, of the image where they differ most; None where all are
            identical.
        max_abs: Greatest difference of any value.
    """

    a: str
    b: str
    images: int
    lowest_db: float | None
    max_abs: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One engine under one attack at one epsilon.

    Attributes:
        engine: Name of the engine, or of a source, which stands there for comparison.
        column: Name of the attack.
        level: Epsilon in grey levels.
        images: Images that it was measured on.
        mean: Mean of the metric.
        drop: Mean clean PSNR minus mean attacked PSNR; None without ground truth.
        gap: Engine minus source, image by image, under the attack that was crafted on that source; None for noise.
        void: Why the figures say nothing; empty where they count.
    """

    engine: str
    column: str
    level: float
    images: int
    mean: float
    drop: float | None
    gap: Estimate | None
    void: str


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Two engines under the same attack at the same epsilon.

    Attributes:
        a: One engine.
        b: The other.
        column: Name of the attack, or `WORST`.
        level: Epsilon in grey levels.
        images: Images that both were measured on.
        both: Images that break both: the output is worse than the rain; None without ground truth.
        only_a: Images that break the first alone.
        only_b: Images that break the second alone.
        neither: Images that break none.
        shared: ``both`` as a share of all that break any; None where none breaks.
        tau: Rank agreement (tau-b) of what each image loses; None where one of them orders nothing.
        difference: First minus second, image by image.
        void: Why the figures say nothing; empty where they count.
    """

    a: str
    b: str
    column: str
    level: float
    images: int
    both: int | None
    only_a: int | None
    only_b: int | None
    neither: int | None
    shared: float | None
    tau: float | None
    difference: Estimate
    void: str


@dataclass(frozen=True, slots=True)
class BuildFigure:
    """One figure over the builds of an engine.

    Attributes:
        name: What it is.
        level: Epsilon in grey levels; None for clean figures.
        values: One of each build, in order; None where it was not measured.
        spread: Greatest minus least.
    """

    name: str
    level: float | None
    values: tuple[float | None, ...]
    spread: float | None


@dataclass(frozen=True, slots=True)
class Builds:
    """What building an engine again changed.

    Attributes:
        engine: Its name.
        how: What was done for each build.
        files: Different files among the builds.
        figures: Figures of each build.
        verdicts: Verdict of each build, in order.
        parity: Parity of each build, in order.
    """

    engine: str
    how: str
    files: int
    figures: tuple[BuildFigure, ...]
    verdicts: tuple[str, ...]
    parity: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exceeded:
    """What keeps a comparison from holding its bound on the gap.

    Attributes:
        engine: The engine.
        reason: One line.
    """

    engine: str
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the formats say.

    Attributes:
        metric: ``psnr`` against the ground truth, or ``drift``, PSNR against the network's own clean output.
        images: Images compared on.
        scenes: Independent scenes among them.
        levels: Epsilons in grey levels.
        confidence: Of every interval; each stands for itself, and no correction is made for their number.
        resamples: Bootstrap resamples behind them.
        rain: Mean PSNR in dB of the rainy input; None without ground truth.
        complete: Whether everything planned was measured.
        notes: What was done or assumed, one line each.
        engines: The engines.
        sources: Other networks.
        columns: Attacks.
        parity: Every engine against every other network.
        cells: Engines and sources under every attack and epsilon.
        agreement: Every pair of engines under every attack and epsilon.
        builds: Engines that were built again.
        max_gap: The bound on the gap that was asked for, in dB.
        exceeded: What breaks it.
        provenance: What the measurements depend on.
    """

    metric: str
    images: int
    scenes: int
    levels: tuple[float, ...]
    confidence: float
    resamples: int
    rain: float | None
    complete: bool
    notes: tuple[str, ...]
    engines: tuple[EngineRow, ...]
    sources: tuple[SourceRow, ...]
    columns: tuple[Column, ...]
    parity: tuple[ParityCell, ...]
    cells: tuple[Cell, ...]
    agreement: tuple[AgreementRow, ...]
    builds: tuple[Builds, ...] = ()
    max_gap: float | None = None
    exceeded: tuple[Exceeded, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def cell(self, engine: str, column: str, level: float) -> Cell | None:
        """The figures of one engine under one attack; None where nothing was measured."""
        wanted = (engine, column, level)
        return next((c for c in self.cells if (c.engine, c.column, c.level) == wanted), None)

    def between(self, a: str, b: str) -> ParityCell | None:
        """How two networks compare on clean images, in either order."""
        return next((c for c in self.parity if {c.a, c.b} == {a, b}), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the schema's version first."""
        return {"schema": SCHEMA_VERSION, **dataclasses.asdict(self)}
