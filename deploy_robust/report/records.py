"""What a report says, as plain frozen records: every format renders these and computes nothing of its own.

Numbers are finite. Where a measurement is infinite (identical images have an infinite PSNR) the figure is counted at
`gate.quantities.HIGHEST_PSNR` and the number of identical images stands beside it, or it is None and the field
``identical`` says so. Pair ids are kept as they are; every format escapes them in its own way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy_robust.gate.records import Status
    from deploy_robust.report.betting_records import BettingTest, Registered, Search
    from deploy_robust.report.downstream import DownstreamReport

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a failed or open requirement comes from, and what to run next.

    Attributes:
        cause: One word: ``source``, ``precision``, ``runtime``, ``transfer``, ``parity``, ``defect``,
            ``surrogate``, ``attack``, ``evidence`` or ``unknown``.
        short: The cause in a few words, for the verdict sentence.
        sentences: What was compared and what came out, with paired intervals.
        command: The next command to run; empty where none would help.
        purpose: What that command is for.
    """

    cause: str
    short: str
    sentences: tuple[str, ...]
    command: str = ""
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class CaseRef:
    """One pair under one attack.

    Attributes:
        pair: Id of the pair.
        attack: Name of the attack; ``clean`` for none.
        level: Epsilon in grey levels, n of n/255; 0 for clean.
    """

    pair: str
    attack: str
    level: float


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One requirement at one epsilon.

    Attributes:
        requirement: Its name in the policy.
        quantity: Name of what is bounded.
        meaning: The quantity in words.
        unit: Its unit; empty for none.
        statistic: ``mean``, ``min``, ``max``, ``dataset``, ``failure_rate`` or ``mean_at_least``.
        confidence: Of the interval of a mean.
        level: Epsilon in grey levels; None for clean quantities.
        at_least: Lower bound, if there is one.
        at_most: Upper bound, if there is one.
        gates: False where the line can only keep the run from passing.
        status: PASS, FAIL or INCONCLUSIVE.
        value: The statistic; None where nothing was measured, or where it is infinite.
        identical: Whether the value is infinite: the compared images are equal.
        low: Lower end of the interval; None where it is unbounded or nothing was measured.
        high: Upper end.
        margin: Distance of the value from its bound, positive on the good side.
        pairs: How many pairs decided.
        scenes: How many independent scenes decided.
        worst: The case nearest to breaking the bound, or furthest beyond it.
        reason: Why it is not a PASS.
        explanation: Where it comes from; None for a PASS.
    """

    requirement: str
    quantity: str
    meaning: str
    unit: str
    statistic: str
    confidence: float
    level: float | None
    at_least: float | None
    at_most: float | None
    gates: bool
    status: Status
    value: float | None
    identical: bool
    low: float | None
    high: float | None
    margin: float | None
    pairs: int
    scenes: int
    worst: CaseRef | None
    reason: str
    explanation: Explanation | None


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over the images of one epsilon.

    Attributes:
        level: Epsilon in grey levels; 0 for the clean images.
        count: Number of images.
        identical: How many of them had an infinite value, counted at the highest PSNR.
        mean: Mean over images.
        minimum: Smallest.
        q10: 10 % quantile.
        q25: 25 % quantile.
        median: 50 % quantile.
        q75: 75 % quantile.
        q90: 90 % quantile.
        maximum: Largest.
    """

    level: float
    count: int
    identical: int
    mean: float
    minimum: float
    q10: float
    q25: float
    median: float
    q75: float
    q90: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric of one network under one attack over epsilon.

    Attributes:
        role: ``engine``, ``source``, ...
        attack: Name of the attack.
        delivery: ``8bit`` or ``float``.
        metric: ``psnr``, ``ssim``, ``drop`` (clean PSNR minus attacked PSNR) or ``drift``.
        points: By epsilon, ascending; the first is the clean one at 0, where it was measured.
        images: Pair id to its values, one for each point; None where it was not measured.
        mean_adversarial: Mean over epsilons above 0 of the mean over images (arXiv 2203.16931, eq. 7).
    """

    role: str
    attack: str
    delivery: str
    metric: str
    points: tuple[Spread, ...]
    images: dict[str, tuple[float | None, ...]]
    mean_adversarial: float | None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Engine and source under the same transferred attack.

    Attributes:
        pair: Id of the pair.
        level: Epsilon in grey levels.
        engine_psnr: In dB.
        source_psnr: In dB.
        gap: Engine minus source, in dB.
    """

    pair: str
    level: float
    engine_psnr: float
    source_psnr: float
    gap: float


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One attacked image, as the engine answered to it.

    Attributes:
        case: Pair, attack and epsilon.
        scene: The independent draw that the pair belongs to.
        drop: Clean PSNR minus attacked PSNR in dB; None without ground truth.
        psnr_input: PSNR of the rainy input, in dB.
        psnr_clean: PSNR of the engine's output on the rainy input.
        psnr_attacked: PSNR of its output on the attacked input.
        ssim_attacked: SSIM of the same.
        psnr_source: PSNR of the source on the same attacked input.
        drift: PSNR between attacked and clean output, in dB.
        rainy: SHA-256 of the rainy input in the store; empty where it was not kept.
        attacked: SHA-256 of the attacked input.
        clean_output: SHA-256 of the output on the rainy input.
        attacked_output: SHA-256 of the output on the attacked input.
    """

    case: CaseRef
    scene: str
    drop: float | None
    psnr_input: float | None
    psnr_clean: float | None
    psnr_attacked: float | None
    ssim_attacked: float | None
    psnr_source: float | None
    drift: float | None
    rainy: str
    attacked: str
    clean_output: str
    attacked_output: str


@dataclass(frozen=True, slots=True)
class DefectRow:
    """A network that misbehaved on an input that it had accepted.

    Attributes:
        case: Where.
        role: Which network.
        delivery: How the image reached it.
        kind: ``nan``, ``inf``, ``shape``, ``dtype``, ``crash`` or ``timeout``.
        detail: One line.
        image: SHA-256 of the input; empty where it was not kept.
    """

    case: CaseRef
    role: str
    delivery: str
    kind: str
    detail: str
    image: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that a report says.

    Attributes:
        schema: Version of this shape.
        status: PASS, FAIL or INCONCLUSIVE.
        sentence: The verdict in one sentence.
        because: Where each failed or open requirement comes from, one line each.
        next_steps: (command, what it is for), without repeats, the most useful first.
        caps: Reasons why the run cannot PASS whatever was measured.
        notes: What was changed or assumed on the way, like padded images or a surrogate source.
        pairs: Number of pairs measured.
        scenes: Number of independent scenes among them.
        levels: Epsilons in grey levels.
        attacks: Attacks in order.
        roles: Networks in order, without the input.
        rain: Metric to its spread over the rainy inputs themselves.
        outcomes: One for each requirement and epsilon.
        curves: Metrics over epsilon.
        transfer: Engine against source, image by image.
        cases: Every attacked image, the worst first.
        defects: All of them.
        registered: What tests by betting fixed before the first query; None without such tests.
        tests: Those tests, one for each line and epsilon.
        searches: Best PSNR over queries, for each attack by queries and epsilon.
        downstream: What other networks saw in the outputs; None where none looked.
        provenance: The plan of the run: files, hashes, versions, settings.
    """

    schema: int
    status: Status
    sentence: str
    because: tuple[str, ...]
    next_steps: tuple[tuple[str, str], ...]
    caps: tuple[str, ...]
    notes: tuple[str, ...]
    pairs: int
    scenes: int
    levels: tuple[float, ...]
    attacks: tuple[str, ...]
    roles: tuple[str, ...]
    rain: dict[str, Spread]
    outcomes: tuple[OutcomeRow, ...]
    curves: tuple[Curve, ...]
    transfer: tuple[Transfer, ...]
    cases: tuple[CaseRow, ...]
    defects: tuple[DefectRow, ...]
    registered: Registered | None
    tests: tuple[BettingTest, ...]
    searches: tuple[Search, ...]
    downstream: DownstreamReport | None
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def curve(self, role: str, attack: str, metric: str, delivery: str = "8bit") -> Curve | None:
        """One curve; None where it was not measured."""
        wanted = (role, attack, metric, delivery)
        return next((c for c in self.curves if (c.role, c.attack, c.metric, c.delivery) == wanted), None)
