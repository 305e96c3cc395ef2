"""What executes a check: networks, pairs and attacks, opened in the process that will run them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.app.literal_twin import open_twin
from deploy_robust.app.networks import EngineRequest, Opened, SourceRequest, open_engine, open_source
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.terms import CONVERSION, FIDELITY, adaptive, terms_of
from deploy_robust.errors import PolicyError, UsageError
from deploy_robust.gate.quantities import ENGINE, LITERAL, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy_robust.attacks.attack import Attack
    from deploy_robust.gate.executor import LocalExecutor
    from deploy_robust.gate.judge import Terms
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Flight, Requirement
    from deploy_robust.restorer import Restorer


@dataclass(frozen=True, slots=True)
class Execution:
    """Everything that an executor is made from; plain data, so that it can be sent to a process.

    Attributes:
        engine: The engine under test.
        source: What attacks are crafted on.
        pairs: What is attacked.
        attacks: Attack name to its settings.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        places: Attack name to where the policy says it, for messages.
        rows: Images attacked and run together at most; None takes all epsilons of a batch's pairs.
    """

    engine: EngineRequest
    source: SourceRequest
    pairs: PairsRequest
    attacks: Mapping[str, Mapping[str, Any]]
    seed: int
    threads: int | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None

    def __call__(self, notify: Callable[[Flight | None], None] | None = None) -> tuple[LocalExecutor, Facts]:
        """Opens everything.

        Raises:
            DeployRobustError: Something that the user named cannot be used.
        """
        import torch

        from deploy_robust.attacks.attack import Access
        from deploy_robust.gate.executor import LocalExecutor, PlannedAttack
        from deploy_robust.metrics.registry import METRICS

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        engine = open_engine(self.engine)
        twin = open_twin(self.engine, engine, self.source.device)
        literal = twin if isinstance(twin, Opened) else None
        source = open_source(self.source, self.engine.path, literal)
        roster = Roster.of(engine, source, literal)
        against = {Access.NOTHING: None, Access.GRADIENTS: SOURCE, Access.QUERIES: ENGINE}
        attacks = {name: self._attack(name) for name in self.attacks}
        planned = {name: PlannedAttack(attack, against[attack.access]) for name, attack in attacks.items()}
        adapted = tuple(n for n, a in attacks.items() if a.access is Access.GRADIENTS and roster.adaptable)
        executor = LocalExecutor(
            pairs=open_pairs(self.pairs),
            subjects=roster.subjects,
            attacks=planned | {adaptive(name): PlannedAttack(attacks[name], LITERAL) for name in adapted},
            metrics={name: METRICS[name] for name in METRICS},
            seed=self.seed,
            references=roster.references,
            judged=ENGINE,
            clean_only=frozenset() if adapted else frozenset({LITERAL}),
            rows=self.rows,
            notify=notify,
        )
        facts = Facts(
            engine=dict(engine.facts),
            source=dict(source.facts),
            literal=None if literal is None else dict(literal.facts),
            references=tuple(roster.references),
            adapted=adapted,
            precision=engine.restorer.capabilities.precision,
            threads=torch.get_num_threads(),
            on_gpu=any(not each.capabilities.device.startswith("cpu") for each in roster.subjects.values()),
            notes=tuple(_notes(engine, source, twin, roster)),
        )
        return executor, facts

    def _attack(self, name: str) -> Attack:
        from deploy_robust.attacks.registry import make_attack

        try:
            return make_attack(name, **self.attacks[name])
        except UsageError as error:
            raise PolicyError(f"{self.places.get(name, 'the policy')}: {error}") from error


@dataclass(frozen=True, slots=True)
class Roster:
    """Which networks take part, and what each is there for.

    Attributes:
        subjects: Networks by role.
        references: Parity figure to (role, role of its reference).
        adaptable: Whether the literal reading is worth an attack of its own: it is another network than the source.
    """

    subjects: Mapping[str, Restorer]
    references: Mapping[str, tuple[str, str]]
    adaptable: bool

    @classmethod
    def of(cls, engine: Opened, source: Opened, literal: Opened | None) -> Roster:
        """Engine and source always; the literal reading where there is one that is not the source itself."""
        subjects = {ENGINE: engine.restorer, SOURCE: source.restorer}
        if literal is None:
            return cls(subjects, {CONVERSION: (ENGINE, SOURCE)} if source.twin else {}, adaptable=False)
        if source is literal:
            return cls(subjects, {FIDELITY: (ENGINE, SOURCE)}, adaptable=False)
        references = {FIDELITY: (ENGINE, LITERAL), CONVERSION: (ENGINE, SOURCE)}
        # The fp32 graph computes what its source computes: an attack on it would be the same attack twice.
        adaptable = engine.restorer.capabilities.precision != "fp32"
        return cls(subjects | {LITERAL: literal.restorer}, references, adaptable)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about the networks when they were opened; plain data.

    Attributes:
        engine: The engine: file, hash, capabilities, I/O description, manifest.
        source: The source: name, hash of its weights, capabilities.
        literal: The literal reading of the engine's graph, likewise; None where there is none.
        references: Parity figures that are measured; none where attacks are crafted on a surrogate.
        adapted: Attacks that are crafted on the literal reading, too.
        precision: Of the engine.
        threads: Of torch.
        on_gpu: Whether a network runs on a GPU.
        notes: What was done to images or assumed, one line each.
    """

    engine: Mapping[str, Any]
    source: Mapping[str, Any]
    literal: Mapping[str, Any] | None
    references: tuple[str, ...]
    adapted: tuple[str, ...]
    precision: str
    threads: int
    on_gpu: bool
    notes: tuple[str, ...]

    def terms(self, policy: Policy, *, paired: bool) -> tuple[Terms, tuple[Requirement, ...]]:
        """What a verdict on these networks rests on; see `terms_of`."""
        return terms_of(
            policy, precision=self.precision, references=self.references, paired=paired, adapted=self.adapted
        )


def _notes(engine: Opened, source: Opened, twin: Opened | str, roster: Roster) -> Iterator[str]:
    found = engine.restorer.capabilities
    yield f"engine: {found.runtime} on {found.provider}, {found.arithmetic} arithmetic"
    for role, opened in ((ENGINE, engine), (SOURCE, source)):
        size = opened.restorer.io.size
        if size.multiple > 1 or size.fixed is not None:
            yield f"{role}: sizes outside its rule ({size}) are padded by reflection and cropped back"
    if not source.twin:
        yield f"attacks were crafted on the shipped surrogate {source.facts['name']}, not on the engine's source"
    if isinstance(twin, str):
        yield f"no literal twin, so no fidelity and no adaptive attack: {twin}"
    elif source is twin:
        yield "attacks were crafted on the engine's own graph, read literally: no other source is known"
    elif not roster.adaptable:
        yield "no adaptive attack: the fp32 graph computes what the source computes"
    if engine.restorer.io.dtype == "uint8":
        yield "engine: takes 8-bit integers, so there is no float delivery"
