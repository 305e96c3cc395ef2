"""Where ONNX Runtime really ran each node, read from its own profile of one pass.

A session on a GPU puts arithmetic on sizes on the CPU by design, and ``session.disable_cpu_ep_fallback`` refuses that
like any other node. So one pass is profiled when the session is opened: a node that touches a value as large as the
image must be where the user asked, and no such value may be copied.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True, slots=True)
class RunNode:
    """One node of a profiled pass.

    Attributes:
        name: Its name, after the runtime's own rewriting.
        kind: Its operator, likewise.
        provider: Where it ran.
        elements: Elements of its largest input or output.
    """

    name: str
    kind: str
    provider: str
    elements: int


@dataclass(frozen=True, slots=True)
class Placement:
    """All nodes of a profiled pass, each once."""

    nodes: tuple[RunNode, ...]

    @classmethod
    def read(cls, profile: Path) -> Placement:
        """Reads the file that ``InferenceSession.end_profiling`` names; a node that ran twice counts once."""
        events = json.loads(profile.read_text(encoding="utf-8"))
        return cls(tuple({node.name: node for node in _nodes(events)}.values()))

    def elsewhere(self, providers: Iterable[str], pixels: int) -> tuple[RunNode, ...]:
        """Nodes that touch a value of at least `pixels` elements on a provider that was not asked for."""
        allowed = set(providers)
        return tuple(node for node in self.nodes if node.provider not in allowed and node.elements >= pixels)

    def copies(self, pixels: int) -> tuple[RunNode, ...]:
        """Copies between host and device of a value of at least `pixels` elements, in every pass."""
        return tuple(node for node in self.nodes if node.kind in _COPIES and node.elements >= pixels)

    def operators(self) -> Counter[str]:
        """How many nodes of each kind ran."""
        return Counter(node.kind for node in self.nodes)

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in Counter(n.provider for n in self.nodes).most_common())


def _nodes(events: Iterable[Mapping[str, Any]]) -> Iterator[RunNode]:
    for event in events:
        found = event.get("args", {})
        if event.get("cat") != "Node" or "op_name" not in found or not event["name"].endswith("_kernel_time"):
            continue
        values = (*found.get("input_type_shape", ()), *found.get("output_type_shape", ()))
        sizes = [_product(shape) for value in values for shape in value.values()]
        name = event["name"].removesuffix("_kernel_time")
        yield RunNode(name, found["op_name"], found.get("provider", ""), max(sizes, default=0))


def _product(shape: Iterable[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
