"""The vendor's quantiser in an environment of its own: where it is there, and what is said where it is not."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.artefact.exporter import Calibration, ExportRequest, ExportSettings
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.literal import KIND as LITERAL
from deploy_robust.errors import EnvironmentProblem, ExportError
from deploy_robust.exporters.int8_modelopt import EXPORTER, VARIABLE
from deploy_robust.gate.parity import CONVERSION, parity, worst
from deploy_robust.restorer import Restorer

there = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} is not set (make modelopt-test)")


def images():
    draw = np.random.default_rng(0)
    for size in ((48, 64), (64, 48), (64, 64)):
        yield draw.integers(0, 255, (*size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Four convolutions with 16 channels between them, and a skip connection."""
    draw = np.random.default_rng(3)
    shapes = {"head": (16, 3), "body": (16, 16), "neck": (16, 16), "tail": (3, 16)}
    weights = {k: draw.normal(0, 0.1, (*s, 3, 3)).astype(np.float32) for k, s in shapes.items()}
    nodes, last = [], "rainy"
    for name in shapes:
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}_c"], name=name, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [f"{name}_r"], name=f"{name}_relu"))
        last = f"{name}_r"
    nodes[-1] = helper.make_node("Add", ["tail_c", "rainy"], ["derained"], name="skip")
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, "h", "w"]) for n in ("rainy", "derained")]
    made = helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(v, k) for k, v in weights.items()]
    )
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    onnx.save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), str(path))
    return path


def request(graph, out, method="minmax", **settings) -> ExportRequest:
    calibration = Calibration(images, method)
    chosen = ExportSettings(**settings)
    return ExportRequest(out, torch.nn.Identity(), SizeRule(), lambda _: (), graph, calibration, settings=chosen)


@there
def test_its_graph_keeps_our_rules_and_follows_the_fp32_graph(graph, tmp_path):
    made = EXPORTER.export(request(graph, tmp_path / "int8.onnx"))
    assert made.versions["modelopt"]
    model = onnx.load(str(made.path))
    assert findings(model) == []
    quantised = {n.name for n in model.graph.node if n.op_type == "Conv" and "Dequantize" in n.input[1]}
    assert {"body", "neck"} <= {name.split("/")[0] for name in quantised}
    assert not {"head", "tail"} & quantised
    fp32, int8 = (Restorer(*LITERAL.open(path, EngineOptions())) for path in (graph, made.path))
    x = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    low = worst(list(parity(fp32, int8, [x])))
    assert low.psnr_db >= CONVERSION["int8"].psnr_db
    assert not low.identical


@there
def test_a_method_that_it_lacks(graph, tmp_path):
    with pytest.raises(ExportError, match="use --method minmax or entropy"):
        EXPORTER.export(request(graph, tmp_path / "int8.onnx", "percentile"))


def test_without_an_environment_the_way_out_is_said(graph, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(EnvironmentProblem, match=r"environment of its own: set DEPLOY_ROBUST_MODELOPT.*make modelopt"):
        EXPORTER.export(request(graph, tmp_path / "int8.onnx"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(EnvironmentProblem, match="nowhere, which is not there"):
        EXPORTER.export(request(graph, tmp_path / "int8.onnx"))


def test_an_environment_without_it_is_told_from_a_failure(graph, tmp_path, monkeypatch):
    (tmp_path / "empty" / "modelopt").mkdir(parents=True)
    (tmp_path / "empty" / "modelopt" / "__init__.py").write_text("raise ImportError('not built for this')")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(EnvironmentProblem, match=r"modelopt does not load .*not built for this"):
        EXPORTER.export(request(graph, tmp_path / "int8.onnx"))
    (tmp_path / "empty" / "modelopt" / "__init__.py").write_text("raise RuntimeError('it broke')")
    with pytest.raises(ExportError, match=r"modelopt failed .*it broke"):
        EXPORTER.export(request(graph, tmp_path / "int8.onnx"))
    assert not list(tmp_path.glob("*.onnx*"))
