"""Which layer spoils a graph of reduced precision: found by reading it literally beside the float32 one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy_robust.app.registries import engine_kind
from deploy_robust.engine import EngineOptions
from deploy_robust.errors import DeployRobustError
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node

_LARGEST_HALF = 65504.0
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What a user can keep in float; the operators between them only pass errors on."""

_MADE_BY_QUANTISERS = ("_DequantizeLinear_Output", "_QuantizeLinear_Output")


def culprit(graph: Path, fp32: Path | None, rainy: Tensor) -> str | None:
    """Names the layer at which a graph leaves the float32 one.

    Args:
        graph: The reduced-precision ONNX graph.
        fp32: The float32 graph with the same value names; None where only overflow can be looked for.
        rainy: (1, 3, H, W) float32 in [0, 1].

    Returns:
        One clause, or None where nothing stands out or a graph cannot be read literally.
    """
    try:
        found = _values(graph, rainy)
        for node, value in found.values():
            if not math.isfinite(peak := float(value.abs().max())):
                return f"{node} makes {peak}: float16 holds at most {_LARGEST_HALF:g}; keep that layer in fp32"
        return None if fp32 is None else _most_error(found, _values(fp32, rainy))
    except DeployRobustError:  # this explains another error, and must not hide it
        return None


def _values(graph: Path, rainy: Tensor) -> dict[str, tuple[Node, Tensor]]:
    """Every floating-point value of one pass, by name, in the order of the graph."""
    import torch

    engine, io = engine_kind("literal").open(graph, EngineOptions())
    found: dict[str, tuple[Node, Tensor]] = {}

    def observe(node: Node, name: str, value: Tensor) -> None:
        if value.is_floating_point() and value.numel():
            found[name] = node, value

    restorer = Restorer(engine, io)
    try:
        with torch.no_grad(), engine.observed(observe):  # type: ignore[attr-defined]
            restorer(rainy)
    finally:
        restorer.close()
    return found


def _most_error(found: dict[str, tuple[Node, Tensor]], right: dict[str, tuple[Node, Tensor]]) -> str | None:
    """The layer whose output has most relative error that none of its inputs brought along."""
    share = {name: _error_share(right[name][1], value) for name, (_, value) in found.items() if name in right}
    added = []
    for name, (node, _) in found.items():
        if name in share and node.op in _LAYERS:
            before = max((share[i] for i in map(_base, node.inputs) if i in share), default=0.0)
            added.append((share[name] - before, share[name], str(node)))
    if not added or max(added)[0] <= 0:
        return None
    _, after, node_name = max(added)
    return f"most error enters at {node_name}: its values keep {-10 * math.log10(after):.1f} dB above their error"


def _base(name: str) -> str:
    """The value that a quantise-dequantise pair stands for."""
    for ending in _MADE_BY_QUANTISERS:
        name = name.removesuffix(ending)
    return name


def _error_share(right: Tensor, found: Tensor) -> float:
    """Power of the error in units of the power of the right value; 0 where they cannot be compared."""
    power = float(right.double().square().mean())
    if right.shape != found.shape or power == 0:
        return 0.0
    return float((right.double() - found.double()).square().mean()) / power
