"""Artefacts for OpenVINO and AOTInductor: verified before they get their names, whole or not there."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from deploy_robust.app.networks import EngineRequest, open_engine
from deploy_robust.artefact.exporter import Calibration, ExportRequest
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.aotinductor import KIND as PACKAGES
from deploy_robust.errors import EnvironmentProblem, ExportError
from deploy_robust.exporters import aotinductor, onnx_fp32, openvino_ir, openvino_nncf
from deploy_robust.gate.parity import CONVERSION, parity
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from pathlib import Path


def installed(name: str) -> bool:
    try:
        __import__(name)
    except Exception:
        return False
    return True


needs_openvino = pytest.mark.skipif(not installed("openvino"), reason="openvino is not installed (make openvino-test)")
# Looked for and not imported: it takes seconds, and its telemetry starts with it.
needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="nncf is not installed (make openvino-test)"
)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 3, padding=1)]
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def graph(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "network.onnx"
    onnx_fp32.EXPORTER.export(ExportRequest(path, network, SizeRule(), lambda _: ()))
    return path


def images():
    draw = np.random.default_rng(0)
    for size in ((48, 64), (64, 48), (64, 64)):
        yield draw.integers(0, 256, (*size, 3), dtype=np.uint8)


def request(path, network, graph, verify=lambda _: (), **more) -> ExportRequest:
    calibration = Calibration(images, **more)
    metadata = {"deploy_robust.precision": "fp32"}
    return ExportRequest(path, network, SizeRule(), verify, graph=graph, calibration=calibration, metadata=metadata)


def opened(path) -> Restorer:
    return open_engine(EngineRequest(path, EngineOptions(threads=1))).restorer


def rainy():
    for index, size in enumerate(((33, 47), (64, 40))):
        yield torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(index))


@needs_openvino
def test_ir_is_two_files_that_name_each_other_and_compute_the_same(network, graph, tmp_path):
    seen: list[Path] = []

    def verify(file: Path):
        seen.append(file)
        assert not (tmp_path / "a.xml").exists()
        assert all(CONVERSION["fp32"].holds(figure) for figure in parity(network, opened(file), rainy()))
        return ()

    made = openvino_ir.EXPORTER.export(request(tmp_path / "a.xml", network, graph, verify))
    assert len(seen) == 1
    assert made.companions == (tmp_path / "a.bin",)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    assert sha256_of(tmp_path / "a.bin") in (tmp_path / "a.xml").read_text()
    restorer = opened(made.path)
    assert restorer.capabilities.precision == "fp32"
    assert all(CONVERSION["fp32"].holds(figure) for figure in parity(network, restorer, rainy()))


@needs_openvino
def test_broken_parity_leaves_neither_file(network, graph, tmp_path):
    def broken(_file: Path):
        raise ExportError("parity is broken")

    with pytest.raises(ExportError, match="parity is broken"):
        openvino_ir.EXPORTER.export(request(tmp_path / "a.xml", network, graph, broken))
    assert list(tmp_path.iterdir()) == []


@needs_openvino
@needs_nncf
def test_nncf_quantises_and_its_methods_differ(network, graph, tmp_path):
    found = {}
    for method in ("minmax", "percentile"):
        path = tmp_path / f"{method}.xml"
        openvino_nncf.EXPORTER.export(request(path, network, graph, method=method))
        restorer = opened(path)
        assert restorer.capabilities.precision == "int8"
        figures = list(parity(network, restorer, rainy()))
        assert all(CONVERSION["int8"].holds(figure) for figure in figures)
        assert not any(CONVERSION["fp32"].holds(figure) for figure in figures)
        found[method] = sha256_of(path.with_suffix(".bin"))
    assert found["minmax"] != found["percentile"]
    with pytest.raises(ExportError, match="by entropy"):
        openvino_nncf.EXPORTER.export(request(tmp_path / "e.xml", network, graph, method="entropy"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling a package needs g++")
def test_a_package_is_compiled_with_its_facts_inside(network, tmp_path):
    def verify(file: Path):
        engine = PACKAGES.open(file, EngineOptions(vouched=sha256_of(file)))
        assert all(CONVERSION["fp32"].holds(figure) for figure in parity(network, Restorer(*engine), rainy()))
        return ()

    path = tmp_path / "a.pt2"
    aotinductor.EXPORTER.export(request(path, network, None, verify))
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt2"]
    engine, _ = PACKAGES.open(path, EngineOptions(vouched=sha256_of(path)))
    assert engine.capabilities.precision == "fp32"


def test_what_is_missing_is_named(network, graph, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EnvironmentProblem, match="install g"):
        aotinductor.EXPORTER.export(request(tmp_path / "a.pt2", network, None))
    for name, exporter in (("nncf", openvino_nncf.EXPORTER), ("openvino", openvino_ir.EXPORTER)):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "openvino", None if name == "openvino" else sys)
            patched.setitem(sys.modules, name, None)
            with pytest.raises(EnvironmentProblem, match=rf"{name} cannot be imported .* pip install"):
                exporter.export(request(tmp_path / "a.xml", network, graph))
    assert list(tmp_path.iterdir()) == []
