"""Notes on what a float16 graph does inside, clean and attacked: how near to 65504, and whether beyond."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.probes import LARGEST_HALF, PEAK, PEAK_NODE
from deploy_robust.gate.records import CLEAN
from deploy_robust.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.records import Measurement


def float16_ranges(measurements: Sequence[Measurement], plan: Mapping[str, Any]) -> Iterator[str]:
    """Notes on the values inside the engine's graph, read literally; none where it is not of float16.

    Args:
        measurements: Of the run; those that hold `PEAK` count.
        plan: Of the run; names of nodes are under ``literal`` or ``source``.
    """
    seen = [m for m in measurements if PEAK in m.values]
    if not seen:
        return
    nodes = _nodes(plan)
    clean = [m for m in seen if m.case.attack == CLEAN]
    attacked = [m for m in seen if m.case.attacked]
    over = {name: [m for m in some if math.isinf(m.values[PEAK])] for name, some in _both(clean, attacked)}
    if not any(over.values()):
        peaks = [(name, max(some, key=lambda m: m.values[PEAK])) for name, some in _both(clean, attacked) if some]
        parts = [f"{_peak(m, nodes)} on {name} images{_under(m)}" for name, m in peaks]
        yield f"float16, read literally: inside the graph values reach {' and '.join(parts)}; float16 ends at 65504"
        return
    counts = [f"{len(over[name])} of {len(some)} {name} images" for name, some in _both(clean, attacked) if some]
    first = next(m for name in over for m in over[name])
    yield (
        f"float16 overflows inside the graph, read literally, on {' and '.join(counts)}: first at {_node(first, nodes)}"
        f"{_under(first)}. An engine that computes in float16 answers with inf or nan from there, and one that "
        "computes float16 in float32, like ONNX Runtime's CPU provider, hides it: keep that layer in fp32 "
        "(export --keep-fp32)"
    )


def _both(
    clean: list[Measurement], attacked: list[Measurement]
) -> tuple[tuple[str, list[Measurement]], tuple[str, list[Measurement]]]:
    return ("clean", clean), ("attacked", attacked)


def _peak(m: Measurement, nodes: Sequence[str]) -> str:
    share = 100 * m.values[PEAK] / LARGEST_HALF
    return f"{m.values[PEAK]:.4g} ({share:.2g} % of 65504, at {_node(m, nodes)})"


def _under(m: Measurement) -> str:
    return "" if m.case.attack == CLEAN else f" ({m.case.attack} at {wording.epsilon(m.case.level)})"


def _node(m: Measurement, nodes: Sequence[str]) -> str:
    index = int(m.values[PEAK_NODE])
    return f"node {nodes[index]!r}" if index < len(nodes) else f"node {index}"


def _nodes(plan: Mapping[str, Any]) -> Sequence[str]:
    for role in ("literal", "source"):
        found: Sequence[str] = (plan.get(role) or {}).get("nodes", ())
        if found:
            return found
    return ()
