"""Measurements, looked up by what they are about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy_robust.gate.records import CLEAN, Case

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from deploy_robust.gate.records import Delivery, Measurement


class Key(NamedTuple):
    """What a measurement is about."""

    role: str
    case: Case
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Known:
    """What a run knows of its attacks before it measures anything.

    Attributes:
        access: Attack to what it needs of a network: ``nothing``, ``gradients`` or ``queries``.
        partial: Attacks that are run on some pairs or at some epsilons only.
    """

    access: Mapping[str, str] = field(default_factory=dict)
    partial: Collection[str] = ()

    def of(self, access: str, attacks: Iterable[str]) -> tuple[str, ...]:
        """Those of the attacks that need this of a network."""
        return tuple(name for name in attacks if self.access.get(name) == access)


class Table:
    """All measurements of a run.

    Attributes:
        known: What is known of its attacks.
        scenes: Scene of each pair, in the order of measurement.
        defects: Measurements that found a defect.
    """

    def __init__(self, measurements: Iterable[Measurement], known: Known | None = None) -> None:
        self.known = known or Known()
        self.scenes: dict[str, str] = {}
        self.defects: list[Measurement] = []
        self._values: dict[Key, Mapping[str, float]] = {}
        self._evidence: dict[Key, Mapping[str, Any]] = {}
        for m in measurements:
            self.scenes.setdefault(m.case.pair, m.scene)
            if m.defect is not None:
                self.defects.append(m)
            else:
                self._values[Key(m.role, m.case, m.delivery)] = m.values
                self._evidence[Key(m.role, m.case, m.delivery)] = m.evidence

    def get(
        self, metric: str, role: str, pair: str, attack: str = CLEAN, level: float = 0.0, delivery: Delivery = "8bit"
    ) -> float | None:
        """One number; None where it was not measured."""
        return self._values.get(Key(role, Case(pair, attack, level), delivery), {}).get(metric)

    def evidence(self, task: str, role: str, case: Case) -> Mapping[str, Any] | None:
        """What was seen in an 8-bit image by the network of a downstream task; None where none looked."""
        found: Mapping[str, Any] | None = self._evidence.get(Key(role, case, "8bit"), {}).get(task)
        return found

    def measured(self) -> Iterator[Key]:
        """What was measured, in order."""
        return iter(self._values)

    def roles(self) -> list[str]:
        """Roles in the order of first appearance."""
        return list(dict.fromkeys(key.role for key in self._values))

    def levels(self) -> list[float]:
        """Epsilons in grey levels, ascending, without the clean one."""
        return sorted({key.case.level for key in self._values if key.case.attacked})

    def attacks(self) -> list[str]:
        """Attacks in the order of first appearance, without the clean one and the row probe."""
        return list(dict.fromkeys(key.case.attack for key in self._values if key.case.attacked))
