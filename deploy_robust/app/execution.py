"""What executes a run: networks, pairs and attacks, opened in the process that will run them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.app.downstream import open_downstream
from deploy_robust.app.float16 import float16_probes, node_facts
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.roster import Roster
from deploy_robust.app.terms import CONVERSION, FIDELITY, adaptive, terms_of
from deploy_robust.errors import PolicyError, UsageError
from deploy_robust.gate.quantities import DIVERGENCE, ENGINE, LITERAL, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy_robust.app.networks import EngineRequest, SourceRequest
    from deploy_robust.app.recorded import RecordedRequest
    from deploy_robust.attacks.attack import Attack
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.crafting import PlannedAttack
    from deploy_robust.gate.executor import LocalExecutor
    from deploy_robust.gate.judge import Terms
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Delivery, Flight, Requirement
    from deploy_robust.stored.adversarial_set import AdversarialSet


@dataclass(frozen=True, slots=True)
class Execution:
    """Everything that an executor is made from; plain data, so that it can be sent to a process.

    Attributes:
        engine: The engine under test, or what was recorded of it; None where a set is crafted without one.
        source: What attacks are crafted on.
        pairs: What is attacked, or a set of what was attacked.
        attacks: Attack name to its settings.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        places: Attack name to where the policy says it, for messages.
        rows: Images attacked and run together at most; None takes all epsilons of a batch's pairs.
        deliveries: How attacked images reach the networks; those of a stored set are of 8 bits in any case.
        levels: Epsilons that a stored set must hold.
        downstream: Networks that look at the outputs, as a user names them.
        needs: Downstream tasks and optional metrics that the policy asks for.
        compares: Whether the engine's answers to attacked images are compared with its references.
        scoped: Attacks that the policy runs on some pairs or at some epsilons. Searches among them are its guard, which
            asks the engine itself: it is run here even where all other images come from a set, and left out, with a
            note, where no engine runs here.
    """

    engine: EngineRequest | RecordedRequest | None
    source: SourceRequest
    pairs: PairsRequest
    attacks: Mapping[str, Mapping[str, Any]]
    seed: int
    threads: int | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    deliveries: tuple[Delivery, ...] = ("8bit", "float")
    levels: tuple[float, ...] = ()
    downstream: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    compares: bool = True
    scoped: frozenset[str] = frozenset()

    def __call__(self, notify: Callable[[Flight | None], None] | None = None) -> tuple[LocalExecutor, Facts]:
        """Opens everything.

        Raises:
            DeployRobustError: Something that the user named cannot be used.
        """
        import torch

        from deploy_robust.app.stored_attacks import facts_of, planned_from, require_held
        from deploy_robust.gate.crafting import PlannedAttack
        from deploy_robust.gate.executor import LocalExecutor
        from deploy_robust.metrics.registry import METRICS, OPTIONAL

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        stored = self._stored()
        named = {name: self._attack(name) for name in self.attacks}
        apart = {name: attack for name, attack in named.items() if name in DIVERGENCE}
        attacks = {name: attack for name, attack in named.items() if name not in DIVERGENCE}
        roster = Roster.open(self.engine, self.source, stored)
        guards = self._guards(attacks, stored, roster)
        live = guards if ENGINE in roster.subjects and roster.recorded is None else {}
        left_out = tuple(name for name in guards if name not in live)
        attacks = {name: attack for name, attack in attacks.items() if name not in left_out}
        if stored is None:
            planned, adapted = _crafted(attacks, roster)
        else:
            held = {name: attack for name, attack in attacks.items() if name not in live}
            require_held(stored, held, self.levels)
            planned, adapted = planned_from(stored, tuple(held), roster)
            planned |= {name: PlannedAttack(attack, ENGINE) for name, attack in live.items()}
        diverging = _diverging(apart, roster) if stored is None else {}
        planned = planned | diverging
        probes = float16_probes(roster)
        pairs = self._pairs(stored)
        watching = open_downstream(self.downstream, pairs, self.source.device, self.threads)
        optional = [name for name in self.needs if name in OPTIONAL]
        executor = LocalExecutor(
            pairs=pairs,
            subjects=roster.subjects,
            attacks=planned,
            metrics={name: METRICS[name] for name in METRICS} | {name: OPTIONAL[name]() for name in optional},
            seed=self.seed,
            deliveries=self.deliveries if stored is None else ("8bit",),
            references=roster.references,
            attacked_references=roster.references if self.compares else None,
            judged=frozenset({ENGINE}),
            clean_only=frozenset() if adapted or probes else frozenset({LITERAL}),
            recorded=None if roster.recorded is None else roster.recorded["form"],
            rows=self.rows,
            probes=probes,
            downstream=watching.downstream,
            twins={ENGINE: roster.references[FIDELITY][1]} if FIDELITY in roster.references else {},
            notify=notify,
        )
        engine, source, literal = (
            None if each is None else dict(each.facts) for each in (roster.engine, roster.source, roster.literal)
        )
        facts = Facts(
            engine=engine,
            source=source,
            literal=None if literal is None else {**literal, **node_facts(roster)},
            references=tuple(roster.references),
            adapted=adapted,
            precision="" if roster.engine is None else roster.engine.restorer.capabilities.precision,
            threads=torch.get_num_threads(),
            on_gpu=any(not each.capabilities.device.startswith("cpu") for each in roster.subjects.values()),
            diverging=tuple(diverging),
            notes=(
                *self._notes(roster, stored, planned),
                *_left_out(apart, diverging, stored),
                *_notes_on_guards(live, left_out, stored),
            ),
            attacks={name: _record(name, each, adapted, roster) for name, each in planned.items()},
            adversarial=None if stored is None else facts_of(stored),
            downstream=watching.facts,
            optional=tuple(optional),
        )
        return executor, facts

    def _guards(
        self, attacks: Mapping[str, Attack], stored: AdversarialSet | None, roster: Roster
    ) -> dict[str, Attack]:
        """Searches of the policy's guard that must be run here: the set holds none that was made on this engine."""
        from deploy_robust.attacks.attack import Access

        def is_held(name: str) -> bool:
            record = None if stored is None else stored.index.attacks.get(name)
            return record is not None and record.network is not None and roster.network(ENGINE) == record.network

        searches = {n: a for n, a in attacks.items() if n in self.scoped and a.access is Access.QUERIES}
        return {name: attack for name, attack in searches.items() if not is_held(name)}

    def _attack(self, name: str) -> Attack:
        from deploy_robust.attacks.registry import make_attack

        try:
            return make_attack(name, **self.attacks[name])
        except UsageError as error:
            raise PolicyError(f"{self.places.get(name, 'the policy')}: {error}") from error

    def _stored(self) -> AdversarialSet | None:
        from deploy_robust.stored.adversarial_set import AdversarialSet

        return AdversarialSet.read(Path(self.pairs.what)) if self.pairs.adversarial else None

    def _pairs(self, stored: AdversarialSet | None) -> PairSource:
        from deploy_robust.stored.source import SetSource

        return open_pairs(self.pairs) if stored is None else SetSource(stored)  # its files were held against the index

    def _notes(
        self, roster: Roster, stored: AdversarialSet | None, planned: Mapping[str, PlannedAttack]
    ) -> tuple[str, ...]:
        from deploy_robust.app.stored_attacks import notes_on, notes_on_outputs

        recorded = roster.recorded
        return (
            *(() if recorded is None else notes_on_outputs(recorded, parity=bool(roster.references))),
            *(() if stored is None else notes_on(stored, planned, roster)),
            *roster.notes(crafted=stored is None),
        )


def _crafted(attacks: Mapping[str, Attack], roster: Roster) -> tuple[dict[str, PlannedAttack], tuple[str, ...]]:
    """Each attack on the network that it needs, then those that are crafted on the literal twin, too."""
    from deploy_robust.attacks.attack import Access
    from deploy_robust.attacks.search import Search
    from deploy_robust.gate.crafting import PlannedAttack

    against = {Access.NOTHING: None, Access.GRADIENTS: SOURCE, Access.QUERIES: ENGINE}
    planned = {name: PlannedAttack(attack, against[attack.access]) for name, attack in attacks.items()}
    for name, each in planned.items():
        if each.against == ENGINE and ENGINE not in roster.subjects:
            raise UsageError(f"attack {name} searches by queries of an engine: name one with --engine, or leave it out")
    order = list(attacks)
    for name, attack in attacks.items():
        before = [attacks[other].access for other in order[: order.index(name)]]
        if isinstance(attack, Search) and attack.needs_start and Access.GRADIENTS not in before:
            raise UsageError(f"attack {name} starts from what gradients have found: put one like pgd-lmse before it")
    adapted = tuple(n for n, a in attacks.items() if a.access is Access.GRADIENTS and roster.adaptable)
    return planned | {adaptive(name): PlannedAttack(attacks[name], LITERAL) for name in adapted}, adapted


def _diverging(apart: Mapping[str, Attack], roster: Roster) -> dict[str, PlannedAttack]:
    """Each attack on a difference with its two networks, where there are two.

    Gradients need two networks that have them: the source and the literal reading of the engine's graph. Queries are
    put to the engine itself and to what its parity is measured against, its source rather than its graph.
    """
    from deploy_robust.attacks.attack import Access
    from deploy_robust.gate.crafting import PlannedAttack

    pairs = {}
    if SOURCE in roster.subjects and LITERAL in roster.subjects:
        pairs[Access.GRADIENTS] = SOURCE, LITERAL
    figure = CONVERSION if CONVERSION in roster.references else FIDELITY
    if figure in roster.references and roster.recorded is None:
        pairs[Access.QUERIES] = roster.references[figure]
    return {
        name: PlannedAttack(attack, pairs[attack.access][0], minus=pairs[attack.access][1])
        for name, attack in apart.items()
        if attack.access in pairs
    }


def _left_out(
    apart: Mapping[str, Attack], diverging: Mapping[str, PlannedAttack], stored: AdversarialSet | None
) -> tuple[str, ...]:
    """A note on the attacks on a difference that are not run."""
    if not (missing := [name for name in apart if name not in diverging]):
        return ()
    why = "there are no two networks to tell apart by it" if stored is None else "a set holds no image for one engine"
    return (f"{' and '.join(missing)} was not run: {why}",)


def _notes_on_guards(
    live: Mapping[str, Attack], left_out: tuple[str, ...], stored: AdversarialSet | None
) -> tuple[str, ...]:
    names = ", ".join(live or left_out)
    if left_out and stored is None:
        return (f"{names}: left out, because a search asks an engine: name one with --engine",)
    if left_out:
        return (
            f"{names}: not run, because a search asks the engine itself, and this one ran elsewhere: craft the set "
            "with `attack --engine ARTEFACT`, and name that artefact with --engine here, too",
        )
    if live and stored is not None:
        return (f"{names}: run here on the engine itself, because the set {stored.name} holds none made on it",)
    return ()


def _record(name: str, planned: PlannedAttack, adapted: tuple[str, ...], roster: Roster) -> dict[str, Any]:
    """An attack as plain data, for the index of a set."""
    from deploy_robust.attacks.attack import Access

    stranger = planned.attack.access is Access.QUERIES and planned.against is None
    return {
        "policy_name": next((each for each in adapted if adaptive(each) == name), name),
        # A search on another engine is a picture here: it says nothing of this engine's gradients.
        "access": Access.NOTHING.value if stranger else planned.attack.access.value,
        "against": planned.against,
        "network": roster.network(planned.against),
        "settings": dict(planned.attack.settings),
    }


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about the networks when they were opened; plain data.

    Attributes:
        engine: The engine: file, hash, capabilities, I/O description, manifest; None where there is none.
        source: The source: name, hash of its weights, capabilities; None beside recorded outputs without one.
        literal: The literal reading of the engine's graph, likewise; None where there is none.
        references: Parity figures that are measured; none where attacks are crafted on a surrogate.
        adapted: Attacks that are crafted on the literal reading, too.
        precision: Of the engine.
        threads: Of torch.
        on_gpu: Whether a network runs on a GPU.
        notes: What was done to images or assumed, one line each.
        attacks: By name: what each is crafted on, and all its settings.
        adversarial: The stored set that the images are from; None where they are crafted.
        downstream: By task, the networks that look at the outputs.
        optional: Optional metrics that are measured.
        diverging: Attacks on the difference of two networks that are run.
    """

    engine: Mapping[str, Any] | None
    source: Mapping[str, Any] | None
    literal: Mapping[str, Any] | None
    references: tuple[str, ...]
    adapted: tuple[str, ...]
    precision: str
    threads: int
    on_gpu: bool
    notes: tuple[str, ...]
    attacks: Mapping[str, Mapping[str, Any]]
    adversarial: Mapping[str, Any] | None = None
    downstream: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    diverging: tuple[str, ...] = ()

    def terms(self, policy: Policy, *, paired: bool) -> tuple[Terms, tuple[Requirement, ...]]:
        """What a verdict on these networks rests on; see `terms_of`."""
        terms, requirements = terms_of(
            policy,
            precision=self.precision,
            references=self.references,
            paired=paired,
            adapted=self.adapted,
            measured=(*self.downstream, *self.optional),
            access={name: record["access"] for name, record in self.attacks.items()},
            asked=self.engine is None or "outputs" not in self.engine,
        )
        # What is not run was left out with a note: a guard where the engine ran elsewhere.
        return replace(terms, attacks=tuple(name for name in terms.attacks if name in self.attacks)), requirements
