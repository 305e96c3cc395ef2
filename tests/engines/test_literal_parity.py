"""The literal engine against ONNX Runtime with its optimiser off: whole fp32 networks, and int8 networks node by node.

An int8 network is chaotic end to end: a last bit flips a code and the flip spreads. So every node is given the values
that ONNX Runtime computed before it.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from deploy_robust.engines.literal import LiteralEngine
from deploy_robust.engines.literal.graph import read
from deploy_robust.engines.literal.program import Program
from deploy_robust.exporters.onnx_fp32 import to_onnx
from deploy_robust.models.checkpoints import load_official
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    import onnx

sys.path.insert(0, str(Path(__file__).parent))
import literal_graphs as g

EXACT = {"QuantizeLinear", "DequantizeLinear", "Add", "Sub", "Mul", "Concat", "Relu", "Slice", "Clip", "MaxPool"}
CONV, REST = 1e-5, 1e-6
CPU = torch.device("cpu")


SLOW = {"mprnet", "mprnet-r-seadd-mb", "umrl"}
"""Networks that take long to export."""


def marked(names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


@pytest.mark.parametrize("name", marked(MODELS.names()))
def test_fp32_networks_of_the_zoo(name):
    model = g.fp32(name)
    x = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    right = g.on_runtime(model, x.numpy())["derained"]
    apart = np.abs(LiteralEngine(model).run(x).numpy() - right).max()
    print(f"{name}: {apart:.1e}")  # noqa: T201
    assert apart <= 1e-5


def worst_by_operator(model: onnx.ModelProto, x: torch.Tensor) -> tuple[dict[str, float], int]:
    """Largest difference at any node of each operator, every node fed with ONNX Runtime's values; values compared."""
    seen = {n: torch.from_numpy(v) for n, v in g.on_runtime(model, x.numpy(), everything=True).items()}
    graph = read(model)
    program = Program(graph, CPU, join=False)
    known = {**program.constants, **seen, graph.image: x}
    worst: Counter[str] = Counter()
    compared = 0
    for step in program.steps:
        # Codes are float32 between quantiser and dequantiser.
        codes = (torch.int8, torch.uint8)
        given = {n: known[n].float() if known[n].dtype in codes else known[n] for n in step.inputs if n}
        for name, value in zip(step.node.outputs, step(given), strict=True):
            right = seen[name]
            assert value.shape == right.shape, step.node
            # Relative where values are large: some networks compute in 0 to 255.
            scale = max(1.0, right.double().abs().max().item())
            apart = (value.double() - right.double()).abs().max().item() / scale
            worst[step.node.op] = max(worst[step.node.op], apart)
            compared += value.numel()
    return dict(worst), compared


def check_nodes(model: onnx.ModelProto, x: torch.Tensor) -> dict[str, float]:
    worst, compared = worst_by_operator(model, x)
    print(f"{compared:,} values", {op: f"{w:.1e}" for op, w in sorted(worst.items())})  # noqa: T201
    assert worst["QuantizeLinear"] == worst["DequantizeLinear"] == 0
    for op, apart in worst.items():
        assert apart <= (0 if op in EXACT else CONV if op.startswith("Conv") else REST), op
    return worst


@pytest.mark.parametrize("profile", g.PROFILES)
@pytest.mark.parametrize("name", marked(name for name in MODELS.names() if name != "mprnet-r-seadd-mb"))
def test_int8_node_by_node(name, profile):
    worst = check_nodes(g.PROFILES[profile](g.fp32(name)), g.rainy())
    assert {"Conv", "QuantizeLinear"} <= set(worst)


@pytest.mark.slow
@pytest.mark.parametrize("profile", g.PROFILES)
def test_official_prenet_node_by_node(data_root, profile):
    net, _ = load_official("prenet", "official", data_root / "checkpoints" / "prenet6_rain100h.pth")
    check_nodes(g.PROFILES[profile](to_onnx(net, net.size_rule)), g.rainy())


@pytest.mark.parametrize("profile", g.PROFILES)
def test_joined_quantisers_give_the_same_bits_and_gradients(profile):
    graph = read(g.PROFILES[profile](g.fp32("prenet")))
    joined, apart = Program(graph, CPU), Program(graph, CPU, join=False)
    assert len(joined.steps) < len(apart.steps)
    outcomes = []
    for program in (joined, apart):
        x = g.rainy().requires_grad_()
        y = program.run(x)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        outcomes.append((y.detach(), gradient))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert outcomes[0][1].any()
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=1e-3, atol=1e-4)
