"""Which networks take part in a run, and what each is there for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.app.crafting import Crafting
from deploy_robust.app.literal_twin import open_twin
from deploy_robust.app.networks import EngineRequest, Opened, SourceRequest, open_engine, open_source
from deploy_robust.app.recorded import RecordedRequest, open_recorded
from deploy_robust.app.terms import CONVERSION, FIDELITY
from deploy_robust.engine import UNKNOWN
from deploy_robust.errors import UsageError
from deploy_robust.gate.quantities import ENGINE, LITERAL, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploy_robust.restorer import Restorer
    from deploy_robust.stored.adversarial_set import AdversarialSet


@dataclass(frozen=True, slots=True)
class Roster:
    """The networks of a run.

    Attributes:
        subjects: Networks by role.
        references: Parity figure to (role, role of its reference).
        adaptable: Whether the literal reading is worth an attack of its own: it is another network than the source.
        engine: The engine; None where a set is crafted without one.
        source: What white-box attacks are crafted on; None beside recorded outputs of which no source is known.
        literal: The literal reading of the engine's graph; None where there is none.
        no_literal: Why there is none.
    """

    subjects: Mapping[str, Restorer]
    references: Mapping[str, tuple[str, str]]
    adaptable: bool
    engine: Opened | None
    source: Opened | None
    literal: Opened | None
    no_literal: str = ""

    @classmethod
    def open(
        cls, engine: EngineRequest | RecordedRequest | None, source: SourceRequest, stored: AdversarialSet | None
    ) -> Roster:
        """Opens engine, source and literal twin.

        Raises:
            DeployRobustError: Something that the user named cannot be used.
        """
        if engine is None:
            return cls.of(None, open_source(source), "there is no engine")
        if not isinstance(engine, RecordedRequest):
            opened = open_engine(engine)
        elif stored is None:
            raise UsageError("recorded outputs answer the images of a set: name it with --adversarial")
        else:
            opened = open_recorded(engine, stored)
        twin = open_twin(engine, opened, source.device)
        literal = twin if isinstance(twin, Opened) else None
        if engine.path is None and source.what is None:
            return cls.of(opened, None, twin)
        return cls.of(opened, open_source(source, engine.path, literal), twin)

    @classmethod
    def of(cls, engine: Opened | None, source: Opened | None, twin: Opened | str | None) -> Roster:
        """Engine and source where they are there; the literal reading where there is one that is not the source."""
        literal = twin if isinstance(twin, Opened) else None
        why = twin if isinstance(twin, str) else ""
        subjects = {ENGINE: engine, SOURCE: source, LITERAL: None if literal is source else literal}
        there = {role: opened.restorer for role, opened in subjects.items() if opened is not None}
        references: dict[str, tuple[str, str]] = {}
        if engine is not None and source is not None:
            if literal is not None:
                references[FIDELITY] = (ENGINE, SOURCE if literal is source else LITERAL)
            if literal is not source and (source.twin or literal is not None):
                references[CONVERSION] = (ENGINE, SOURCE)
        # The fp32 graph computes what its source computes: an attack on it would be the same attack twice.
        adaptable = LITERAL in there and engine is not None and engine.restorer.capabilities.precision != "fp32"
        roster = cls(there, references, adaptable, engine, source, literal, why)
        if references and engine is not None and engine.restorer.capabilities.precision == UNKNOWN:
            which = "the recorded engine" if roster.recorded else f"{engine.facts['file']}"
            raise UsageError(f"say with --precision what {which} computes in: parity is judged by it")
        return roster

    @property
    def recorded(self) -> Mapping[str, Any] | None:
        """What is known of recorded outputs; None where the engine runs here."""
        return None if self.engine is None else self.engine.facts.get("outputs")

    def network(self, role: str | None) -> str | None:
        """Hash of the network of a role; None where it does not take part."""
        if role is None or role not in self.subjects:
            return None
        if role == ENGINE:
            return None if self.engine is None else str(self.engine.facts["sha256"])
        opened = self.source if role == SOURCE else self.literal
        return None if opened is None else str(opened.facts["weights_sha256"])

    def notes(self, *, crafted: bool = True) -> Iterator[str]:
        """What was done to images or assumed, one line each.

        Args:
            crafted: Whether attacks are crafted in this run.
        """
        if self.engine is not None and self.recorded is None:
            found = self.engine.restorer.capabilities
            yield f"engine: {found.runtime} on {found.provider}, {found.arithmetic} arithmetic"
            if "," in (work := found.tags.get("work", "")):
                yield f"engine: its multiply-accumulates are {work}, so it is judged as {found.precision}"
        for role, opened in ((ENGINE, self.engine), (SOURCE, self.source)):
            size = None if opened is None else opened.restorer.io.size
            if size is not None and (size.multiple > 1 or size.fixed is not None):
                yield f"{role}: sizes outside its rule ({size}) are padded by reflection and cropped back"
        if crafted:
            yield from self._notes_on_crafting()
        elif self.no_literal and self.source is not None:
            yield f"no literal twin, so no fidelity: {self.no_literal}"

    def _notes_on_crafting(self) -> Iterator[str]:
        crafting = {} if self.source is None else self.source.facts.get("crafting", {})
        yield from Crafting(**crafting).notes()
        if crafting and self.adaptable:
            yield "attacks on the engine's own graph run it whole, in the graph's own arithmetic"
        if self.source is not None and not self.source.twin and self.engine is not None:
            name = self.source.facts["name"]
            yield f"attacks were crafted on the shipped surrogate {name}, not on the engine's source"
        if self.engine is None:
            return
        if self.no_literal:
            yield f"no literal twin, so no fidelity and no adaptive attack: {self.no_literal}"
        elif self.source is self.literal:
            yield "attacks were crafted on the engine's own graph, read literally: no other source is known"
        elif not self.adaptable:
            yield "no adaptive attack: the fp32 graph computes what the source computes"
        if self.engine.restorer.io.dtype == "uint8":
            yield "engine: takes 8-bit integers, so there is no float delivery"
