"""The exporter of plans: on our fake, and where TensorRT is missing."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from deploy_robust.artefact.exporter import ExportRequest, ExportSettings, ShapeProfile
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.tensorrt import KIND
from deploy_robust.errors import EnvironmentProblem, ExportError, UsageError
from deploy_robust.exporters.tensorrt import EXPORTER
from deploy_robust.restorer import Restorer
from deploy_robust.tensorrt.build_record import read_record

PROFILE = ExportSettings(profile=ShapeProfile.parse("1x32x32,2x64x64,2x96x96"))


def request(graph, out, verify=lambda _: (), settings=PROFILE) -> ExportRequest:
    return ExportRequest(out, torch.nn.Identity(), SizeRule(), verify, graph, settings=settings)


def test_a_plan_is_verified_before_it_gets_its_name_and_answers_after(trt, device, graph, tmp_path):
    out, seen = tmp_path / "out" / "net-fp32.plan", []
    x = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))

    def answer(path):
        restorer = Restorer(*KIND.open(path, EngineOptions(device="cuda")))
        return restorer(x).cpu()

    def verify(path):
        assert not out.exists()
        seen.append(answer(path))
        return ()

    made = EXPORTER.export(request(graph(), out, verify))
    assert made.path == out
    assert sorted(file.name for file in out.parent.iterdir()) == sorted([out.name, *(c.name for c in made.companions)])
    record = read_record(out)
    assert record.plan.file == out.name
    assert torch.equal(answer(out), seen[0])
    assert dict(made.versions) == {"tensorrt": trt.__version__}


def test_broken_parity_leaves_neither_plan_nor_record(trt, device, graph, tmp_path):
    def verify(_):
        raise ExportError("parity")

    with pytest.raises(ExportError, match="parity"):
        EXPORTER.export(request(graph(), tmp_path / "out" / "a.plan", verify))
    assert not list((tmp_path / "out").iterdir())


def test_a_graph_that_tensorrt_would_refuse_is_not_built(trt, device, graph, tmp_path):
    path = graph()
    model = onnx.load(str(path))
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(3), "z")]
    )
    conv = model.graph.node.pop()
    conv.input[0] = "d"
    model.graph.node.extend(
        [
            onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise"),
            onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            conv,
        ]
    )
    onnx.save_model(model, str(path))
    with pytest.raises(ExportError, match=r"would refuse g\.onnx: node 'quantise'"):
        EXPORTER.export(request(path, tmp_path / "out" / "a.plan"))
    assert not (tmp_path / "out").exists()


def test_open_sizes_need_a_profile(trt, device, graph, tmp_path):
    with pytest.raises(UsageError, match="profile"):
        EXPORTER.export(request(graph(), tmp_path / "out" / "a.plan", settings=ExportSettings()))
    assert not list((tmp_path / "out").iterdir())


def test_without_tensorrt_the_way_out_is_said(graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EnvironmentProblem, match="TensorRT is not installed"):
        EXPORTER.export(request(graph(), tmp_path / "out" / "a.plan"))
    assert not (tmp_path / "out").exists()


def test_a_folder_named_tensorrt_is_not_taken_for_it(graph, tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EnvironmentProblem, match=r"a folder without TensorRT \(.*tensorrt\)"):
        EXPORTER.export(request(graph(), tmp_path / "out" / "a.plan"))
    sys.modules.pop("tensorrt", None)
