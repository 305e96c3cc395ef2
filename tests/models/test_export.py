"""Every network leaves torch whole: its ONNX graph restores images of sizes that the exporter never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch

from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.exporters.onnx_fp32 import EXPORTER
from deploy_robust.metrics.psnr import psnr
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from pathlib import Path

# The exporter's example is 64x96 with two rows. The last size breaks every size rule.
UNSEEN = [(1, 96, 160), (3, 80, 48), (1, 67, 93)]
CONTROL_FLOW = {"If", "Loop", "Scan"}


@pytest.fixture(scope="session")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny network with fresh weights, and its graph; exported once for all tests of a session."""
    name = request.param
    torch.manual_seed(0)
    model = MODELS.create(name, "tiny").eval()
    path: Path = tmp_path_factory.mktemp(name) / f"{name}.onnx"
    EXPORTER.export(ExportRequest(path, model.for_export(), model.size_rule, verify=lambda _: ()))
    return model, path


every_network = pytest.mark.parametrize("exported", MODELS.names(), indirect=True)


@every_network
@pytest.mark.timeout(1800)
def test_the_graph_restores_unseen_sizes_as_the_network_does(exported: Any) -> None:
    model, path = exported
    io = IODescription(size=model.size_rule)
    engine, _ = KIND.open(path, EngineOptions(threads=1, io=io))
    source, restorer = Restorer(TorchEngine(model), io), Restorer(engine, io)
    random = torch.Generator().manual_seed(1)
    for size in UNSEEN:
        batch, height, width = size
        x = torch.rand(batch, 3, height, width, generator=random)
        expected, found = source(x), restorer(x)
        assert found.shape == x.shape
        assert (expected - x).abs().max() > 1e-3, "the network does nothing, so that nothing would be compared"
        assert (found - expected).abs().max() < 1e-4, size
        assert psnr(found, expected, shave=0, rounding="none", clamp=False).min() > 90, size
    restorer.close()


@every_network
@pytest.mark.timeout(1800)
def test_the_graph_has_no_control_flow_and_leaves_its_sizes_open(exported: Any) -> None:
    _, path = exported
    graph = onnx.load(str(path)).graph
    assert not CONTROL_FLOW & {node.op_type for node in graph.node}
    for value in (*graph.input, *graph.output):
        n, c, h, w = value.type.tensor_type.shape.dim
        assert c.dim_value == 3
        assert not any(axis.dim_value for axis in (n, h, w))
