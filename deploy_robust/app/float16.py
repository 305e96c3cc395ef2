"""Watching what happens inside a float16 graph: ONNX Runtime's CPU provider computes it in float32, and hides it."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.probes import PEAK, PEAK_NODE
from deploy_robust.gate.quantities import LITERAL, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploy_robust.app.roster import Roster
    from deploy_robust.gate.probes import Probe

NODES = "nodes"
"""Key in the facts of a literal reading: names of its nodes, in the order of the graph."""


def float16_probes(roster: Roster) -> dict[str, Probe]:
    """The probe of an fp16 engine's literal reading, under the role that this has in the run; none for others."""
    if roster.engine is None or roster.engine.restorer.capabilities.precision != "fp16" or roster.literal is None:
        return {}
    role = LITERAL if LITERAL in roster.subjects else SOURCE
    network: Any = roster.literal.restorer.engine

    @contextlib.contextmanager
    def probe() -> Iterator[dict[str, float]]:
        found: dict[str, float] = {}
        with network.watch() as watch:
            try:
                yield found
            finally:
                # Where it begins is what a user can mend; where nothing overflows, the largest.
                for worst in (watch.overflowing or watch.largest(1))[:1]:
                    found[PEAK] = math.inf if watch.overflowing else worst.peak
                    found[PEAK_NODE] = float(network.nodes.index(worst.node))

    return {role: probe}


def node_facts(roster: Roster) -> Mapping[str, Any]:
    """What the plan must hold so that a report can name nodes; empty where nothing is watched."""
    if not float16_probes(roster) or roster.literal is None:
        return {}
    network: Any = roster.literal.restorer.engine
    return {NODES: list(network.nodes)}
