"""Which networks take part in a comparison, and what each is there for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.comparing.requests import LITERAL, OWN, SHIPPED
from deploy_robust.app.literal_twin import open_twin
from deploy_robust.app.networks import Opened, SourceRequest, open_engine, open_source
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy_robust.app.comparing.requests import NamedEngine
    from deploy_robust.restorer import Restorer


@dataclass(slots=True)
class _Source:
    """A network besides the engines."""

    opened: Opened
    kind: str
    attacks: bool

    def facts(self, name: str) -> dict[str, Any]:
        return {**self.opened.facts, "name": name, "kind": self.kind, "attacks": self.attacks}


@dataclass(slots=True)
class Lineup:
    """The networks of a comparison.

    Attributes:
        engines: Engine by name, builds included.
        engine_facts: What is known of each, as plain data, in order.
        notes: What was assumed, one line each.
    """

    engines: dict[str, Opened] = field(default_factory=dict)
    engine_facts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _sources: dict[str, _Source] = field(default_factory=dict)
    _taken: frozenset[str] = frozenset()

    @classmethod
    def open(
        cls, engines: Sequence[NamedEngine], groups: Sequence[str], sources: Sequence[SourceRequest], device: str
    ) -> Lineup:
        """Opens everything; a network that several engines share is kept once.

        Raises:
            DeployRobustError: Something that the user named cannot be used.
        """
        from deploy_robust.models.checkpoints import shipped

        lineup = cls(_taken=frozenset(each.name for each in engines))
        for each in engines:
            lineup._add_engine(each, groups, device)
        extra = [*sources, *(SourceRequest(name, device=device) for name in (shipped() if SHIPPED in groups else ()))]
        for request in extra:
            opened = open_source(replace(request, device=device))
            lineup._add_source(opened, "literal" if opened.facts["kind"] == LITERAL else "torch", attacks=True)
        for line in lineup.engine_facts:
            if line["own"] is None and line["literal"] is None:
                lineup.notes.append(
                    f"{line['name']}: neither its network nor its graph is known ({line['no_literal']}), so that its "
                    "parity is unknown and it has no gap"
                )
            elif line["literal"] is None:
                lineup.notes.append(f"{line['name']}: no literal reading of its graph: {line['no_literal']}")
        return lineup

    @property
    def subjects(self) -> dict[str, Restorer]:
        """All networks by name: engines, then sources."""
        return {name: each.restorer for name, each in self.engines.items()} | {
            name: each.opened.restorer for name, each in self._sources.items()
        }

    @property
    def source_facts(self) -> list[dict[str, Any]]:
        """What is known of each source, as plain data."""
        return [each.facts(name) for name, each in self._sources.items()]

    @property
    def attacking(self) -> dict[str, str]:
        """Sources that attacks are crafted on, with their kinds."""
        return {name: each.kind for name, each in self._sources.items() if each.attacks}

    @property
    def clean_only(self) -> frozenset[str]:
        """Sources that serve as references of parity alone."""
        return frozenset(self._sources) - frozenset(self.attacking)

    def close(self) -> None:
        """Releases every runtime."""
        for restorer in self.subjects.values():
            restorer.engine.close()

    def _add_engine(self, each: NamedEngine, groups: Sequence[str], device: str) -> None:
        opened = open_engine(each.request)
        twin = open_twin(each.request, opened, device)
        literal = twin if isinstance(twin, Opened) else None
        found = open_source(SourceRequest(device=device), each.request.path, literal)
        own = found if found is not literal and found.twin else None
        first = each.build_of is None
        fp32 = opened.restorer.capabilities.precision == "fp32"
        own_name = None if own is None else self._add_source(own, "torch", attacks=first and OWN in groups)
        literal_name = None
        if literal is not None:
            # The graph of an fp32 engine computes what its network computes: an attack on both is one attack twice.
            worth = own is None or not fp32
            literal_name = self._add_source(literal, LITERAL, attacks=first and worth and LITERAL in groups)
        self.engines[each.name] = opened
        self.engine_facts.append(
            {
                **opened.facts,
                "name": each.name,
                "own": own_name,
                "literal": literal_name,
                "no_literal": twin if isinstance(twin, str) else "",
                "build_of": each.build_of,
                "how": each.how,
            }
        )

    def _add_source(self, opened: Opened, kind: str, *, attacks: bool) -> str:
        """Its name; that of the one which is there, if it is the same."""
        identity = opened.facts["weights_sha256"], opened.restorer.io
        for name, other in self._sources.items():
            if (other.opened.facts["weights_sha256"], other.opened.restorer.io) == identity and other.kind == kind:
                other.attacks = other.attacks or attacks
                opened.restorer.engine.close()
                return name
        stem = str(opened.facts["origin"] or opened.facts["name"])
        for suffix in (".safetensors", ".onnx", ".pth"):
            stem = stem.removesuffix(suffix)
        name, count = f"{stem} ({kind})", 1
        while name in self._sources or name in self._taken:
            count += 1
            name = f"{stem} {count} ({kind})"
        self._sources[name] = _Source(opened, kind, attacks)
        return name


def require_columns(columns: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a comparison in which nothing is attacked.

    Raises:
        UsageError: There is no attack.
    """
    if not columns:
        raise UsageError("nothing would be attacked: name a source with --source, or a policy with attacks by noise")
