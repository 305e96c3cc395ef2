"""The records that pass between planner, executor, store and judge; frozen, and free of any runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.statistics.course import Course

CLEAN = "clean"
"""Name of the attack that leaves the image as it is."""

ROWS = "rows"
"""Pseudo-attack: the clean image beside other images in a batch, in each row in turn, and then alone once more."""

INPUT = "input"
"""Role of the image before any engine: its measurements compare the rainy input itself with the ground truth."""

ROWS_APART = "rows_max_abs"
"""Greatest difference between the answers to one image in two rows of a batch."""

BATCH_APART = "batch_max_abs"
"""Greatest difference between the answer to an image in a batch and the answer to it alone."""

BATCH_DB = "batch_db"
"""The same as PSNR in dB, of the row that is furthest off; infinite where all are identical."""

REPEAT = "repeat_max_abs"
"""Greatest difference between two answers of the judged engine to one image; above 0 they are not repeatable."""

REPEAT_DB = "repeat_db"
"""The same as PSNR in dB; infinite where the answers are identical."""

BIAS = "recorded_bias"
"""Mean difference of a recorded 8-bit output and its reference, in grey levels; rounding makes none, truncation 0.5."""

LOW, HIGH = "_low", "_high"
"""Behind a metric's name: the ends of what it may be, where 8-bit outputs do not say it to the last digit."""

Delivery = Literal["8bit", "float"]
"""How the attacked image reaches the engine: rounded to 8 bits as a camera delivers it, or as the attack left it."""


Statistic = Literal["mean", "min", "max", "dataset", "failure_rate", "mean_at_least"]
"""What a requirement bounds."""

Limits = tuple[float | None, float | None]
"""Lower and upper bound of a statistic; None where that side is open."""

DATASET: Statistic = "dataset"
"""A figure over all images taken together, as mIoU and AP are published; decided by a bootstrap over scenes."""

FAILURE_RATE: Statistic = "failure_rate"
MEAN_AT_LEAST: Statistic = "mean_at_least"
BETTING: tuple[Statistic, ...] = (FAILURE_RATE, MEAN_AT_LEAST)
"""Statistics that are decided by betting."""

DEFAULT_CAP = 40.0
"""PSNR in dB above which `mean_at_least` counts no more; cutting can only lower a mean."""


class Status(StrEnum):
    """What a requirement, or a whole run, came to."""

    PASS = "PASS"  # noqa: S105  # a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One pair under one attack: the unit of work, of storage and of resuming.

    Attributes:
        pair: Id of the pair.
        attack: Name of a planned attack, or `CLEAN`.
        level: Epsilon in grey levels, n of n/255; 0 for `CLEAN`.
    """

    pair: str
    attack: str = CLEAN
    level: float = 0.0

    @property
    def attacked(self) -> bool:
        """Whether the image is an attacked one, and not the clean image alone or in the row probe."""
        return self.attack not in (CLEAN, ROWS)

    def __str__(self) -> str:
        return f"{self.pair} {self.attack}" + (f"@{self.level:g}" if self.level else "")


Batch = tuple[Case, ...]
"""Cases that are executed together and committed together."""


def digest_of(batch: Batch) -> str:
    """A short hash of a batch: what tells a resumed run that it follows the same plan."""
    text = json.dumps([[case.pair, case.attack, case.level] for case in batch])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_image(image: NDArray[np.uint8]) -> str:
    """SHA-256 of an image (H, W, 3) uint8: its shape and its values."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Defect:
    """An engine that misbehaved on an input that it had accepted.

    Attributes:
        kind: ``nan``, ``inf``, ``shape``, ``dtype``, ``crash`` or ``timeout``.
        detail: One line for the report.
    """

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics of one engine on one case.

    Attributes:
        case: What was measured.
        scene: The independent draw that the pair belongs to.
        role: Which engine: ``engine``, ``source``, or `INPUT`.
        delivery: How the image reached the engine.
        values: Metric name to value; beside a defect, no more than what probes saw. Values may be infinite, never
            NaN.
        defect: What went wrong, if anything did.
        input_image: SHA-256 of the 8-bit image that the engine saw; empty for float delivery.
        output_image: SHA-256 of the engine's 8-bit output, where it was kept.
        evidence: By downstream task, what a figure over many images needs of this one: counts of pixels, or boxes;
            plain data.
    """

    case: Case
    scene: str
    role: str
    delivery: Delivery
    values: Mapping[str, float] = field(default_factory=dict)
    defect: Defect | None = None
    input_image: str = ""
    output_image: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What executing one batch gave.

    Attributes:
        measurements: One for each case, role and delivery, in a fixed order.
        images: 8-bit images by their SHA-256, (H, W, 3) uint8.
    """

    measurements: tuple[Measurement, ...]
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flight:
    """A call of a network that has begun: what to record if it never ends.

    Attributes:
        role: Which network.
        cases: What the rows of the call belong to.
        scenes: Scene of each.
        delivery: How the images reach the network.
        images: The images, (H, W, 3) uint8, one for each case; empty for networks that are not judged.
    """

    role: str
    cases: tuple[Case, ...]
    scenes: tuple[str, ...]
    delivery: Delivery
    images: tuple[NDArray[np.uint8], ...] = ()


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of a policy: a quantity, over which cases, with which bound and which confidence.

    Attributes:
        name: Name in the policy and in every report.
        quantity: Name of a quantity, see `gate.quantities`.
        statistic: ``mean`` over independent scenes, decided by a confidence interval; ``min`` or ``max`` over pairs;
            ``dataset``, a figure over all pairs taken together, decided by a bootstrap over scenes;
            ``failure_rate`` of units and ``mean_at_least``, decided by betting (`gate.betting`).
        levels: Epsilons in grey levels at which it must hold, one outcome each; empty for clean quantities.
        at_least: Lower bound of the statistic, in the quantity's unit; for a failure rate, what each unit must keep.
        at_most: Upper bound, likewise.
        confidence: Of the two-sided interval of a mean or of a dataset's figure; by betting, of each of two decisions.
        minimum_pairs: Fewer pairs than this cannot PASS.
        gates: False for a line that can only keep the run from passing, never fail it.
        p0: For a failure rate: the rate that separates PASS from FAIL.
        cap: For `mean_at_least`: values above it count as it, in the quantity's unit.
        by_precision: For a bound that depends on what the engine computes in: precision to its (lower, upper) bound.
            `at_least` and `at_most` are None then; `at` gives the line for one precision.
    """

    name: str
    quantity: str
    statistic: Statistic = "mean"
    levels: tuple[float, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    confidence: float = 0.95
    minimum_pairs: int = 1
    gates: bool = True
    p0: float | None = None
    cap: float = DEFAULT_CAP
    by_precision: Mapping[str, Limits] = field(default_factory=dict)

    def at(self, precision: str) -> Requirement | None:
        """The line as it binds an engine of that precision; None where it does not judge such engines."""
        if not self.by_precision:
            return self
        if precision not in self.by_precision:
            return None
        low, high = self.by_precision[precision]
        return replace(self, at_least=low, at_most=high, by_precision={})

    @property
    def by_betting(self) -> bool:
        """Whether it is decided unit by unit, in an order that was registered beforehand."""
        return self.statistic in BETTING

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lower and upper bound of the statistic itself."""
        return (None, self.p0) if self.statistic == FAILURE_RATE else (self.at_least, self.at_most)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one requirement came to at one level.

    Attributes:
        requirement: The line that was judged.
        level: Epsilon in grey levels; None for clean quantities.
        status: PASS, FAIL or INCONCLUSIVE.
        value: The statistic; None where nothing was measured.
        low: Lower end of the interval; equal to `value` for min and max.
        high: Upper end.
        pairs: How many pairs decided.
        scenes: How many independent scenes decided.
        worst: The case nearest to breaking the bound, or furthest beyond it.
        reason: One line that says why, for INCONCLUSIVE and FAIL.
        claim: What may be said, in a sentence; only for what was decided by betting.
        course: How the wealth went, unit by unit; None for other lines.
        counterexamples: For a failure rate: the worst case of every pair that failed, in the registered order.
        values: For lines by betting: pair id to its value; pairs with a defect are missing.
    """

    requirement: Requirement
    level: float | None
    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    scenes: int = 0
    worst: Case | None = None
    reason: str = ""
    claim: str = ""
    course: Course | None = None
    counterexamples: tuple[Case, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def margin(self) -> float | None:
        """Distance of the statistic from its bound, positive on the good side."""
        if self.value is None:
            return None
        low, high = self.requirement.bounds
        sides = []
        if low is not None:
            sides.append(self.value - low)
        if high is not None:
            sides.append(high - self.value)
        return min(sides)


@dataclass(frozen=True, slots=True)
class Verdict:
    """PASS, FAIL or INCONCLUSIVE, with what decided it.

    Attributes:
        status: Of the whole run.
        outcomes: One for each requirement and level, in policy order.
        caps: Reasons why the run cannot PASS whatever was measured, one line each.
    """

    status: Status
    outcomes: tuple[Outcome, ...]
    caps: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, and after it what may be claimed of the lines by betting that made it so."""
        return " ".join([self._judgement, *(o.claim for o in self.outcomes if o.claim and o.status is self.status)])

    @property
    def _judgement(self) -> str:
        failed = dict.fromkeys(o.requirement.name for o in self.outcomes if o.status is Status.FAIL)
        if failed:
            return f"{self.status}: {', '.join(failed)} did not hold."
        open_ = dict.fromkeys(o.requirement.name for o in self.outcomes if o.status is Status.INCONCLUSIVE)
        if self.status is Status.INCONCLUSIVE:
            why = [f"{', '.join(open_)} could not be decided"] if open_ else []
            return f"{self.status}: {'; '.join([*why, *self.caps])}."
        return f"{self.status}: all {len(self.outcomes)} requirements hold on what was measured."
