"""OpenVINO against torch's own convolution, its precision as read back, and the damage that parity must find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

from deploy_robust.app.literal_twin import open_twin
from deploy_robust.app.networks import EngineRequest, open_engine
from deploy_robust.app.registries import engine_kind_for
from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.hashing import BIN_HASH
from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.artefact.manifest import FileRecord, Manifest
from deploy_robust.engine import Engine, EngineOptions
from deploy_robust.engines.openvino import KIND
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError
from deploy_robust.gate.parity import CONVERSION, FIDELITY, parity, worst
from deploy_robust.restorer import Restorer

try:
    import openvino
except ImportError:
    openvino = None

needs_openvino = pytest.mark.skipif(openvino is None, reason="openvino is not installed (make openvino-test)")


def rainy(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).float() / 255


def restorer(path, **options) -> Restorer:
    return Restorer(*KIND.open(path, EngineOptions(threads=1, **options)))


def saved(path, onnx_path, *, half: bool = False, signed: bool = True):
    model = openvino.Core().read_model(str(onnx_path))  # convert_model would report itself over the network
    openvino.save_model(model, str(path), compress_to_fp16=half)
    if signed:
        from deploy_robust.artefact.hashing import sha256_of

        model.set_rt_info(sha256_of(path.with_suffix(".bin")), list(BIN_HASH))
        openvino.save_model(model, str(path), compress_to_fp16=half)
    return path


@needs_openvino
def test_onnx_and_ir_answer_as_torch_at_any_size_and_batch(graphs, tmp_path):
    source = graphs.conv_graph(tmp_path / "a.onnx")
    for engine in (restorer(source), restorer(saved(tmp_path / "b.xml", source))):
        assert isinstance(engine.engine, Engine)
        for shape in ((1, 3, 33, 47), (4, 3, 64, 40), (1, 3, 33, 47)):
            x = rainy(*shape)
            torch.testing.assert_close(engine(x), F.conv2d(x, graphs.WEIGHT, padding=1), atol=1e-5, rtol=0)


@needs_openvino
def test_suffixes_find_the_kind_and_onnx_stays_with_onnx_runtime(tmp_path):
    assert engine_kind_for(tmp_path / "a.xml") is KIND
    assert engine_kind_for(tmp_path / "a.onnx").name == "onnxruntime"


@needs_openvino
def test_foreign_forms(graphs, tmp_path):
    x = rainy(2, 3, 40, 36)
    right = F.conv2d(x, graphs.WEIGHT, padding=1)
    path = graphs.nhwc_uint8_graph(tmp_path / "a.onnx")
    engine = Restorer(*KIND.open(path, EngineOptions(io=describe(path))))
    torch.testing.assert_close(engine(x), right, atol=1e-5, rtol=0)
    half = restorer(graphs.half_graph(tmp_path / "b.onnx"))
    assert half.capabilities.precision == "fp16"
    torch.testing.assert_close(half(x), right, atol=5e-3, rtol=0)
    fixed = restorer(saved(tmp_path / "c.xml", graphs.conv_graph(tmp_path / "c.onnx", shape=(2, 3, 48, 64))))
    assert (fixed.io.size, fixed.io.batch) == (SizeRule(fixed=(48, 64)), 2)


@needs_openvino
def test_precision_is_set_and_read_back(graphs, tmp_path):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    engine = restorer(path)
    found = engine.capabilities
    assert (found.provider, found.threads, found.arithmetic, found.precision) == ("CPU", 1, "fused", "fp32")
    assert found.tags["compute"] == "f32"
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    x = rainy(1, 3, 64, 64)
    exact = engine(x)
    if "BF16" in able:
        coarse = restorer(path, compute="bf16")
        assert (coarse.capabilities.precision, coarse.capabilities.tags["compute"]) == ("bf16", "bf16")
        assert 1e-4 < (coarse(x) - exact).abs().max() < 2e-2
    if "FP16" not in able:
        with pytest.raises(EnvironmentProblem, match=r"asked to compute in f16 and this CPU makes (bf16|f32) of it"):
            restorer(path, compute="f16")
    small = saved(tmp_path / "b.xml", path, half=True)
    assert restorer(small).capabilities.precision == "fp32"  # weights stored in half the bits, made floats to be used


@needs_openvino
def test_memory_is_the_callers(graphs, tmp_path):
    engine, _ = KIND.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions(threads=1))
    x = rainy(1, 3, 40, 40)
    first = engine.run(x)
    second = engine.run(x)
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    assert engine.request.get_input_tensor().data.ctypes.data == x.data_ptr()
    assert engine.request.get_output_tensor().data.ctypes.data == second.data_ptr()
    out = torch.empty_like(x)
    for _ in range(3):
        assert engine.run(x, out=out) is out
        assert engine.request.get_output_tensor().data.ctypes.data == out.data_ptr()
    assert torch.equal(out, first)
    assert torch.equal(second, first)
    torch.testing.assert_close(
        engine.run(x.transpose(2, 3)), engine.run(x.transpose(2, 3).contiguous()), atol=0, rtol=0
    )
    with pytest.raises(UsageError, match="out must be contiguous"):
        engine.run(x, out=torch.empty_like(x).transpose(2, 3))


@needs_openvino
def test_errors_are_told_apart(graphs, tmp_path):
    engine, _ = KIND.open(graphs.crashing_graph(tmp_path / "a.onnx"), EngineOptions())
    with pytest.raises(EngineDefect, match="OpenVINO failed on an input"):
        engine.run(rainy(1, 3, 48, 48))
    fixed, _ = KIND.open(graphs.conv_graph(tmp_path / "b.onnx", shape=(1, 3, 48, 48)), EngineOptions())
    for wrong in (rainy(1, 3, 40, 40), rainy(1, 3, 48, 48).double()):
        with pytest.raises(UsageError, match="the graph takes"):
            fixed.run(wrong)
    fixed.close()
    fixed.close()
    with pytest.raises(UsageError, match="closed"):
        fixed.run(rainy(1, 3, 48, 48))


@needs_openvino
def test_files_that_do_not_belong_together(graphs, tmp_path):
    path = saved(tmp_path / "a.xml", graphs.conv_graph(tmp_path / "a.onnx"))
    other = saved(tmp_path / "b.xml", graphs.conv_graph(tmp_path / "b.onnx", weight=graphs.KERNEL * 2))
    weights = path.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(other.with_suffix(".bin").read_bytes())
    with pytest.raises(ArtefactError, match="holds other weights"):
        KIND.open(path, EngineOptions())
    path.with_suffix(".bin").unlink()
    with pytest.raises(ArtefactError, match=r"copy a\.bin beside it"):
        KIND.open(path, EngineOptions())
    path.with_suffix(".bin").write_bytes(weights)
    assert len(KIND.open(path, EngineOptions())[0].capabilities.tags["weights_sha256"]) == 64
    path.write_text(path.read_text()[:200])
    with pytest.raises(ArtefactError, match="cannot read"):
        KIND.open(path, EngineOptions())


@needs_openvino
def test_a_graph_of_another_precision_is_no_literal_twin(graphs, tmp_path):
    """An int8 engine that was quantised from an fp32 graph: that graph does not say what the engine computes."""
    graph = graphs.conv_graph(tmp_path / "a.onnx")
    for precision, made_of in (("fp32", graph), ("int8", graphs.quantised_graph(tmp_path / "q.onnx"))):
        path = saved(tmp_path / f"{precision}.xml", made_of)
        records = FileRecord.of(path), FileRecord.of(graph)
        Manifest(records[0], precision, "test", {}, IODescription(), graph=records[1]).write(tmp_path)
        asked = EngineRequest(path, EngineOptions(threads=1))
        twin = open_twin(asked, open_engine(asked), "cpu")
        assert isinstance(twin, str) == (precision == "int8")
        if isinstance(twin, str):
            assert "made int8 from a.onnx, which is fp32" in twin


@needs_openvino
def test_work_decides_in_a_graph_and_in_ir_alike(graphs, tmp_path):
    for name, codes, idle, precision in (
        ("a", TensorProto.INT8, False, "int8"),
        ("b", TensorProto.INT8, True, "fp32"),
        ("c", TensorProto.FLOAT8E4M3FN, False, "fp8"),
    ):
        graph = graphs.quantised_graph(tmp_path / f"{name}.onnx", codes, idle=idle)
        for path in (graph, saved(tmp_path / f"{name}.xml", graph)):
            engine, _ = KIND.open(path, EngineOptions())
            assert (engine.capabilities.precision, engine.capabilities.tags["work"]) == (
                precision,
                f"{precision} 100 %",
            )
    lying = Manifest(FileRecord.of(tmp_path / "b.xml"), "int8", "test", {}, IODescription())
    lying.write(tmp_path)
    with pytest.raises(ArtefactError, match="says int8, and the graph computes fp32 100 %"):
        KIND.open(tmp_path / "b.xml", EngineOptions())


@needs_openvino
def test_options_without_a_use_are_refused(graphs, tmp_path):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    for options, words in (
        (EngineOptions(device="cuda"), "leave --device out"),
        (EngineOptions(provider="GPU"), "provider 'GPU'"),
        (EngineOptions(arithmetic="literal"), "--arithmetic literal"),
    ):
        with pytest.raises(UsageError, match=words):
            KIND.open(path, options)


def test_without_openvino_the_error_teaches(graphs, tmp_path, monkeypatch):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'deploy-robust\[openvino\]'"):
        KIND.open(path, EngineOptions())
    (health,) = KIND.health()
    assert not health.works
    assert health.remedy


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory):
    """`prenet-small` in the int8 profile for TensorRT, made with the literal engine's own test graphs."""
    from deploy_robust.exporters.onnx_fp32 import to_onnx
    from deploy_robust.models.checkpoints import load_any

    sys.path.insert(0, str(Path(__file__).parent))
    import literal_graphs

    network, _ = load_any("prenet-small")
    path = tmp_path_factory.mktemp("sym") / "prenet-small-symmetric.onnx"
    onnx.save(literal_graphs.symmetric(to_onnx(network.for_export().eval(), network.size_rule)), path)
    return path


@needs_openvino
@pytest.mark.skipif(
    openvino is None or not openvino.__version__.startswith("2026.4"), reason="known of openvino 2026.4 alone"
)
def test_a_graph_that_openvino_damages_fails_at_parity_and_not_later(symmetric, tmp_path):
    """One file, three readings: ONNX Runtime's agrees with the literal one, OpenVINO's does not."""
    from deploy_robust.app.pairs import PairsRequest, open_pairs
    from deploy_robust.app.registries import engine_kind

    pairs = open_pairs(PairsRequest(limit=8, size=(48, 64)))
    crops = [
        torch.from_numpy(np.ascontiguousarray(pairs[i].rainy.transpose(2, 0, 1)[None])).float() / 255 for i in range(8)
    ]
    literal = Restorer(*engine_kind("literal").open(symmetric, EngineOptions()))
    sound = Restorer(*engine_kind("onnxruntime").open(symmetric, EngineOptions(threads=1)))
    assert all(FIDELITY["int8"].holds(figure) for figure in parity(literal, sound, crops))
    damaged = worst(list(parity(literal, restorer(symmetric), crops)))
    assert not FIDELITY["int8"].holds(damaged)
    assert not CONVERSION["int8"].holds(damaged)

    check = ["check", "--engine", str(symmetric), "--runtime", "openvino", "--source", "prenet-small", "--limit", "8"]
    how = ["--size", "48x64", "--threads", "1", "--quiet", "--out", "run"]
    ended = subprocess.run(
        [sys.executable, "-m", "deploy_robust", *check, *how], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "parity" in ended.stdout
    assert "do-no-harm" not in ended.stdout
