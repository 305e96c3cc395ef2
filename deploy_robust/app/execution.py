"""What executes a check: networks, pairs and attacks, opened in the process that will run them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.app.networks import EngineRequest, Opened, SourceRequest, open_engine, open_source
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.terms import CONVERSION
from deploy_robust.errors import PolicyError, UsageError
from deploy_robust.gate.quantities import ENGINE, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy_robust.attacks.attack import Attack
    from deploy_robust.gate.executor import LocalExecutor
    from deploy_robust.gate.records import Flight


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
        source = open_source(self.source, self.engine.path)
        against = {Access.NOTHING: None, Access.GRADIENTS: SOURCE, Access.QUERIES: ENGINE}
        attacks = {name: self._attack(name) for name in self.attacks}
        executor = LocalExecutor(
            pairs=open_pairs(self.pairs),
            subjects={ENGINE: engine.restorer, SOURCE: source.restorer},
            attacks={name: PlannedAttack(attack, against[attack.access]) for name, attack in attacks.items()},
            metrics={name: METRICS[name] for name in METRICS},
            seed=self.seed,
            references={CONVERSION: (ENGINE, SOURCE)} if source.twin else {},
            judged=ENGINE,
            rows=self.rows,
            notify=notify,
        )
        return executor, _facts(engine, source, torch.get_num_threads())

    def _attack(self, name: str) -> Attack:
        from deploy_robust.attacks.registry import make_attack

        try:
            return make_attack(name, **self.attacks[name])
        except UsageError as error:
            raise PolicyError(f"{self.places.get(name, 'the policy')}: {error}") from error


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about the networks when they were opened; plain data.

    Attributes:
        engine: The engine: file, hash, capabilities, I/O description, manifest.
        source: The source: name, hash of its weights, capabilities.
        twin: Whether the source is the network that the engine was made from.
        precision: Of the engine.
        threads: Of torch.
        on_gpu: Whether a network runs on a GPU.
        notes: What was done to images or assumed, one line each.
    """

    engine: Mapping[str, Any]
    source: Mapping[str, Any]
    twin: bool
    precision: str
    threads: int
    on_gpu: bool
    notes: tuple[str, ...]


def _facts(engine: Opened, source: Opened, threads: int) -> Facts:
    capabilities = [opened.restorer.capabilities for opened in (engine, source)]
    return Facts(
        engine=dict(engine.facts),
        source=dict(source.facts),
        twin=source.twin,
        precision=capabilities[0].precision,
        threads=threads,
        on_gpu=any(not each.device.startswith("cpu") for each in capabilities),
        notes=tuple(_notes(engine, source)),
    )


def _notes(engine: Opened, source: Opened) -> list[str]:
    notes = []
    for role, opened in ((ENGINE, engine), (SOURCE, source)):
        size = opened.restorer.io.size
        if size.multiple > 1 or size.fixed is not None:
            notes.append(f"{role}: sizes outside its rule ({size}) are padded by reflection and cropped back")
    if not source.twin:
        notes.append(
            f"attacks were crafted on the shipped surrogate {source.facts['name']}, not on the engine's source"
        )
    if engine.restorer.io.dtype == "uint8":
        notes.append("engine: takes 8-bit integers, so there is no float delivery")
    return notes
