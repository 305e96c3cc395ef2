"""The use case `attack`: craft adversarial images once, and store them as a set that any engine can be judged on."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deploy_robust import __version__
from deploy_robust.app.check import deadline
from deploy_robust.app.execution import Execution
from deploy_robust.app.networks import SourceRequest
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.planning import cases_of_a_pair, pairs_of_attacks, planner_of
from deploy_robust.app.run_plan import CRAFTING, plan_of
from deploy_robust.app.screen import Screen
from deploy_robust.app.terms import judged_attacks
from deploy_robust.errors import RunError, UsageError
from deploy_robust.gate.judge import Terms
from deploy_robust.gate.policy import DEFAULT, load_policy
from deploy_robust.gate.quantities import DIVERGENCE, ENGINE, SOURCE
from deploy_robust.gate.records import CLEAN, Case
from deploy_robust.gate.table import Table
from deploy_robust.stored.index import SetIndex, StoredAttackRecord
from deploy_robust.stored.writing import Found, refuse_other, write_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from deploy_robust.app.execution import Facts
    from deploy_robust.app.networks import EngineRequest
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement
    from deploy_robust.gate.store import SqliteStore
    from deploy_robust.stored.adversarial_set import AdversarialSet

LMSE = "lmse"
"""The objective of masks that come without one."""

EVERYWHERE = "everywhere"
"""The mask of objectives that come without one."""


@dataclass(frozen=True, slots=True)
class AttackRequest:
    """Everything that a set depends on.

    Attributes:
        out: Folder of the set.
        run: Run folder, in which an interrupted attack goes on; None takes ``OUT.run`` beside the set.
        engine: What searches query and whose own graph adaptive attacks are crafted on; None for neither.
        source: What white-box attacks are crafted on; None follows the engine.
        pairs: What is attacked.
        policy: Name of a shipped policy, a TOML file, or a policy: it holds attacks and epsilons.
        attacks: Names of attacks, of the policy or of the registry; with neither these nor objectives nor masks, all of
            the policy.
        objectives: Objectives that PGD maximises, by name: each in each of the masks, as ``pgd-OBJECTIVE-MASK``.
        masks: Where PGD may move the image: names of masks, ``not-`` before one for its inverse, or `EVERYWHERE`.
        levels: Epsilons in whole grey levels; empty takes those of the policy.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        pairs_per_batch: Pairs executed and committed together; None: 1 on a CPU, 8 on a GPU.
        rows: Images attacked together at most; None takes all epsilons of a batch's pairs.
        timeout: Seconds that one call of a network may take before it counts as hanging.
        max_minutes: When to stop beginning batches; the same request goes on later.
    """

    out: Path
    run: Path | None = None
    engine: EngineRequest | None = None
    source: SourceRequest = field(default_factory=SourceRequest)
    pairs: PairsRequest = field(default_factory=PairsRequest)
    policy: str | Path | Policy = DEFAULT
    attacks: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    seed: int = 0
    threads: int | None = None
    pairs_per_batch: int | None = None
    rows: int | None = None
    timeout: float = 300.0
    max_minutes: float | None = None

    def run_folder(self) -> Path:
        """Where the run lies.

        Raises:
            UsageError: The set has no name of its own, or the run lies in its folder.
        """
        if self.out.name in ("", ".."):
            raise UsageError(f"name the set's own folder, like sets/release-7 (got {self.out})")
        if self.run is not None and self.run.absolute() == self.out.absolute():
            raise UsageError("the run and the set are two folders: name another with --run")
        return self.out.with_name(f"{self.out.name}.run") if self.run is None else self.run

    def asked(self) -> Policy:
        """The policy with the attacks and epsilons that are asked for.

        Raises:
            UsageError: There is no such attack.
        """
        policy = load_policy(self.policy)
        named = {name: _settings(name, policy) for name in self.attacks}
        asked = {**named, **_crossed(self.objectives, self.masks)}
        if apart := [name for name in self.attacks if name in DIVERGENCE]:
            raise UsageError(
                f"{' and '.join(apart)} tells one engine from its network, and a set is for any engine: "
                "`deploy-robust check` runs it"
            )
        kept = {name: settings for name, settings in (asked or policy.attacks).items() if name not in DIVERGENCE}
        scopes = {} if asked else policy.scopes  # what is asked for by name is run everywhere
        return replace(policy, attacks=kept, levels=self.levels or policy.levels, scopes=scopes)


@dataclass(frozen=True, slots=True)
class Strength:
    """What an attack came to on the network that it was crafted on; for noise, on the source.

    Attributes:
        attack: Its name.
        role: Which network.
        level: Epsilon in grey levels.
        drift_db: Mean PSNR between attacked and clean output of that network; None where nothing was measured.
    """

    attack: str
    role: str
    level: float
    drift_db: float | None


@dataclass(frozen=True, slots=True)
class Attacked:
    """A set that was crafted.

    Attributes:
        set: The set.
        run: The run folder that it was made in.
        strengths: By attack and epsilon.
        notes: What was assumed on the way.
    """

    set: AdversarialSet
    run: Path
    strengths: tuple[Strength, ...]
    notes: tuple[str, ...]


def attack(request: AttackRequest, *, on_progress: Callable[[int, int | None], None] | None = None) -> Attacked:
    """Crafts and stores an adversarial set.

    It is a run like that of a check, with the same batches: on the same machine a check crafts the same bytes.

    Args:
        request: What to craft, on what.
        on_progress: Called with the number of cases done and the number planned.

    Raises:
        DeployRobustError: Something that the user named cannot be used; the message says what to do.
    """
    from deploy_robust.app.judge import ENDED, PLANNED
    from deploy_robust.gate.isolation import IsolatedExecutor
    from deploy_robust.gate.runner import run
    from deploy_robust.gate.store import SqliteStore

    out_of_time = deadline(request.max_minutes)
    policy, folder = request.asked(), request.run_folder()
    pairs = open_pairs(request.pairs)
    execution = Execution(
        request.engine,
        request.source,
        request.pairs,
        policy.attacks,
        request.seed,
        request.threads,
        policy.places,
        request.rows,
        deliveries=("8bit",),
        compares=False,
        scoped=frozenset(policy.scopes),
    )
    executor = IsolatedExecutor(execution, judged=frozenset({ENGINE}), timeout=request.timeout)
    try:
        facts = executor.start()
        terms = Terms(tuple(name for name in judged_attacks(policy, facts.adapted) if name in facts.attacks))
        plan = plan_of(
            CRAFTING,
            policy,
            pairs,
            facts,
            terms,
            seed=request.seed,
            pairs_per_batch=request.pairs_per_batch,
            rows=request.rows,
        )
        index = _index(plan, facts, policy)
        refuse_other(request.out, index.plan)
        with SqliteStore.create_or_resume(folder, plan) as store:
            planner = planner_of(policy, terms.attacks, pairs.ids(), (), plan["batch"]["pairs"])
            screen = Screen(planner.size, len(store.finished()), on_progress, None)
            store.note(PLANNED, planner.size)
            store.note(ENDED, False)
            ended = run(planner, executor, store, on_batch=screen.show, keep_going=lambda: not out_of_time())
            store.note(ENDED, ended)
            executor.close()
            if not ended:
                raise RunError(
                    f"{store.cases} of {planner.size} cases are crafted and no set is written yet: "
                    "repeat the command to go on"
                )
            crafted = _write(request.out, index, pairs, _cases(policy, terms, pairs), store)
            strengths = tuple(_strengths(index, store.measurements()))
            return Attacked(crafted, folder, strengths, facts.notes)
    finally:
        executor.close()


def _settings(name: str, policy: Policy) -> Mapping[str, Any]:
    from deploy_robust.attacks.registry import ATTACKS
    from deploy_robust.registry import instead_of

    if name in policy.attacks:
        return policy.attacks[name]
    if name not in ATTACKS:
        known = instead_of(name, dict.fromkeys([*policy.attacks, *ATTACKS]))
        raise UsageError(f"no attack is named {name!r}: {known}; compose others in a policy's [attacks.NAME]")
    return {}


def _crossed(objectives: Sequence[str], masks: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """PGD on each objective in each mask, as a policy would compose it."""
    if not objectives and not masks:
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for objective, mask in itertools.product(objectives or (LMSE,), masks or (EVERYWHERE,)):
        if mask != EVERYWHERE:
            found[f"pgd-{objective}-{mask}"] = {"algorithm": "pgd", "objective": objective, "mask": mask}
        elif objective == LMSE:  # comes with its name
            found["pgd-lmse"] = {}
        else:
            found[f"pgd-{objective}"] = {"algorithm": "pgd", "objective": objective}
    return found


def _index(plan: Mapping[str, Any], facts: Facts, policy: Policy) -> SetIndex:
    """All of the index but what is crafted."""
    if facts.source is None:
        raise UsageError("an attack needs a source: name one with --source")
    made = {key: plan[key] for key in ("threads", "batch", "versions", "notes")}
    return SetIndex(
        created_by=f"deploy-robust {__version__}",
        plan=hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest(),
        seed=plan["seed"],
        levels=policy.levels,
        source=facts.source,
        engine=facts.engine,
        literal=facts.literal,
        origin=plan["pairs"],
        made=made,
        attacks={name: StoredAttackRecord(**record) for name, record in facts.attacks.items()},
        pairs=(),
        cases=(),
        files={},
    )


def _cases(policy: Policy, terms: Terms, pairs: PairSource) -> list[Case]:
    """Every attacked case of the set, pair by pair."""
    cases = cases_of_a_pair(policy, terms.attacks)[1:]
    only = pairs_of_attacks(policy, terms.attacks, pairs.ids())
    return [Case(pair, *which) for pair in pairs.ids() for which in cases if pair in only.get(which[0], (pair,))]


def _write(out: Path, index: SetIndex, pairs: PairSource, wanted: Sequence[Case], store: SqliteStore) -> AdversarialSet:
    clean: dict[str, str] = {}
    found: dict[Case, Found] = {}
    for m in store.measurements():
        if m.delivery != "8bit" or not m.input_image:
            continue
        if m.case.attack == CLEAN:
            clean.setdefault(m.case.pair, m.input_image)
            continue
        against = index.attacks[m.case.attack].against
        facts = _facts(m) if m.role == against else {}
        if m.case not in found or facts:
            found[m.case] = Found(m.input_image, facts)
    if missing := [case for case in wanted if case not in found or case.pair not in clean]:
        raise RunError(
            f"{len(missing)} of {len(wanted)} cases have no attacked image, like {missing[0]}: a network failed there; "
            "`deploy-robust check` says how, and a set needs networks that answer"
        )
    return write_set(out, index, pairs, clean, {case: found[case] for case in wanted}, store)


def _facts(m: Measurement) -> dict[str, float]:
    """What the attack observed: everything that is no metric of the attacked image."""
    from deploy_robust.gate.executor import DRIFT
    from deploy_robust.metrics.registry import METRICS

    return {name: value for name, value in m.values.items() if name not in METRICS and name != DRIFT}


def _strengths(index: SetIndex, measurements: Iterable[Measurement]) -> Iterable[Strength]:
    from deploy_robust.gate.executor import DRIFT

    table = Table(measurements)
    for name, record in index.attacks.items():
        role = record.against or SOURCE
        for level in index.levels:
            values = [table.get(DRIFT, role, pair, name, level) for pair in table.scenes]
            yield Strength(name, role, level, _mean([value for value in values if value is not None]))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
