"""What executes a comparison: engines, sources, pairs and attacks, opened in the process that will run them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.app.comparing.lineup import Lineup, require_columns
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.errors import PolicyError, UsageError
from deploy_robust.gate.quantities import DIVERGENCE
from deploy_robust.report.comparison.records import parity_figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy_robust.app.comparing.requests import NamedEngine
    from deploy_robust.app.networks import SourceRequest
    from deploy_robust.attacks.attack import Attack
    from deploy_robust.gate.crafting import PlannedAttack
    from deploy_robust.gate.executor import LocalExecutor
    from deploy_robust.gate.records import Flight


@dataclass(frozen=True, slots=True)
class ComparedFacts:
    """What was found out about the networks when they were opened; plain data.

    Attributes:
        engines: Engines with their builds.
        sources: Other networks.
        columns: Attacks and what each is crafted on.
        notes: What was assumed, one line each.
        threads: Of torch.
        on_gpu: Whether a network runs on a GPU.
    """

    engines: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    columns: list[dict[str, Any]]
    notes: tuple[str, ...]
    threads: int
    on_gpu: bool


@dataclass(frozen=True, slots=True)
class CompareExecution:
    """Everything that the executor of a comparison is made from; plain data, so that it can be sent to a process.

    Attributes:
        engines: The engines with their builds.
        groups: Sources by what they are to the engines.
        sources: Further sources.
        device: Torch device string of the sources.
        pairs: What is attacked.
        attacks: Attack name to its settings.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        places: Attack name to where the policy says it, for messages.
        rows: Images attacked and run together at most.
        without: Names of engines that are opened and never asked, because they end the process.
    """

    engines: tuple[NamedEngine, ...]
    groups: tuple[str, ...]
    sources: tuple[SourceRequest, ...]
    device: str
    pairs: PairsRequest
    attacks: Mapping[str, Mapping[str, Any]]
    seed: int
    threads: int | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    without: frozenset[str] = frozenset()

    def __call__(self, notify: Callable[[Flight | None], None] | None = None) -> tuple[LocalExecutor, ComparedFacts]:
        """Opens everything.

        Raises:
            DeployRobustError: Something that the user named cannot be used.
        """
        import torch

        from deploy_robust.gate.executor import LocalExecutor
        from deploy_robust.metrics.registry import METRICS

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        lineup = Lineup.open(self.engines, self.groups, self.sources, self.device)
        planned = dict(self._planned(lineup))
        columns = [_column(name, each, kind) for name, (each, kind) in planned.items()]
        require_columns(columns)
        subjects = {name: each for name, each in lineup.subjects.items() if name not in self.without}
        executor = LocalExecutor(
            pairs=open_pairs(self.pairs),
            subjects=subjects,
            attacks={name: each for name, (each, _) in planned.items()},
            metrics={name: METRICS[name] for name in METRICS},
            seed=self.seed,
            deliveries=("8bit",),
            references=dict(_references(lineup, subjects)),
            attacked_references=dict(_own_references(lineup, subjects)),
            judged=frozenset(lineup.engines),
            keep_outputs=False,
            clean_only=lineup.clean_only,
            rows=self.rows,
            twins={each["name"]: each["literal"] for each in lineup.engine_facts if each["literal"] is not None},
            notify=notify,
        )
        facts = ComparedFacts(
            engines=lineup.engine_facts,
            sources=lineup.source_facts,
            columns=columns,
            notes=tuple(lineup.notes),
            threads=torch.get_num_threads(),
            on_gpu=any(not each.capabilities.device.startswith("cpu") for each in lineup.subjects.values()),
        )
        return executor, facts

    def _planned(self, lineup: Lineup) -> Iterator[tuple[str, tuple[PlannedAttack, str]]]:
        """Every attack on every network that it can be crafted on, by the name of its column."""
        from deploy_robust.attacks.attack import Access
        from deploy_robust.gate.crafting import PlannedAttack

        for name in self.attacks:
            if name in DIVERGENCE:  # of one engine and one network: a check runs it
                continue
            attack = self._attack(name)
            if attack.access is Access.NOTHING:
                yield name, (PlannedAttack(attack), "none")
                continue
            queried = {each["name"]: "engine" for each in lineup.engine_facts if each["build_of"] is None}
            for network, kind in (lineup.attacking if attack.access is Access.GRADIENTS else queried).items():
                yield f"{name} on {network}", (PlannedAttack(attack, network, drawn_as=name), kind)

    def _attack(self, name: str) -> Attack:
        from deploy_robust.attacks.registry import make_attack

        try:
            return make_attack(name, **self.attacks[name])
        except UsageError as error:
            raise PolicyError(f"{self.places.get(name, 'the policy')}: {error}") from error


def _column(name: str, planned: PlannedAttack, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "attack": planned.drawn_as or name,
        "source": planned.against,
        "kind": kind,
        "access": planned.attack.access.value,
    }


def _references(lineup: Lineup, there: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every engine against every network that comes after it."""
    names = list(lineup.subjects)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if a in lineup.engines and a in there and b in there:
                yield parity_figure(a, b), (a, b)


def _own_references(lineup: Lineup, there: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every engine against the network and the graph that it was made from."""
    for facts in lineup.engine_facts:
        for other in (facts["own"], facts["literal"]):
            if facts["name"] in there and other in there:
                yield parity_figure(facts["name"], other), (facts["name"], other)
