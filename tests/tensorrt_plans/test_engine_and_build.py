"""Building and running plans on our own fake: numbers against torch, and every error path."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto

from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import FileRecord, Manifest, manifest_path
from deploy_robust.engine import Engine, EngineOptions
from deploy_robust.engines.tensorrt import KIND, TensorRTEngine
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, ExportError, UsageError
from deploy_robust.exporters.tensorrt_build import BuildSettings, build_plan
from deploy_robust.restorer import Restorer
from deploy_robust.tensorrt.build_record import read_record, record_path
from deploy_robust.tensorrt.device import Gpu, open_device
from deploy_robust.tensorrt.inspector import parse
from deploy_robust.tensorrt.loading import load
from deploy_robust.tensorrt.profiles import Profile, nearest

SMALL = Profile((1, 3, 32, 32), (2, 3, 32, 32), (2, 3, 40, 48))
LARGE = Profile((1, 3, 32, 32), (4, 3, 64, 64), (4, 3, 96, 96))


def rainy(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def plan(trt, device, graph, tmp_path):
    """Builds a plan from a graph."""

    def build(path=None, **settings):
        settings.setdefault("profiles", (SMALL, LARGE))
        out = tmp_path / "g.plan"
        return out, build_plan(trt, path or graph(), out, BuildSettings(**settings), device)

    return build


@pytest.fixture
def engine(plan):
    return KIND.open(plan()[0], EngineOptions(device="cuda"))[0]


def right(x, weight):
    return F.conv2d(x, torch.from_numpy(weight), padding=1)


def test_a_plan_answers_as_torch_and_says_what_it_is(plan, trt, weight):
    path, record = plan()
    opened, io = KIND.open(path, EngineOptions(device="cuda"))
    assert isinstance(opened, Engine)
    restorer = Restorer(opened, io)
    for shape in ((1, 3, 33, 47), (4, 3, 64, 40), (2, 3, 32, 32), (1, 3, 33, 47), (3, 3, 70, 70), (1, 3, 96, 96)):
        x = rainy(*shape)
        torch.testing.assert_close(restorer(x), right(x, weight), atol=1e-5, rtol=0)
    found = opened.capabilities
    assert (found.runtime, found.precision, found.arithmetic) == (f"tensorrt {trt.__version__}", "fp32", "fused")
    assert found.tags["launch"] == "one CUDA graph for each shape"
    assert record == read_record(path)
    assert (record.flags, record.layers) == (("STRICT_NANS",), {"fp32": 1})
    assert record.plan.sha256 == sha256_of(path)


def test_two_batches_are_in_flight_and_a_third_does_not_overwrite_them(engine, device, weight):
    batches = [rainy(2, 3, 32, 32) + n for n in range(3)]
    settled = device.log.count("settle")
    pending = [engine.submit(x) for x in batches]
    assert "leave" not in device.log
    assert pending[0].slot is pending[2].slot is not pending[1].slot
    for x, each in zip(batches, pending, strict=True):
        torch.testing.assert_close(each.result(), right(x, weight), atol=1e-5, rtol=0)
    for x in batches:
        engine.run(x)
    assert device.log.count("settle") == settled, "the host waits in the loop"
    assert device.log.count("capture") == 2
    out = torch.empty(2, 3, 32, 32)
    assert engine.run(batches[0], out) is out
    strided = rainy(2, 3, 32, 32).transpose(2, 3)
    torch.testing.assert_close(engine.run(strided), right(strided, weight), atol=1e-5, rtol=0)
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(batches[0])


def test_a_plan_that_cannot_be_captured_runs_and_says_so(plan, device, weight):
    device.captures = False
    engine, _ = KIND.open(plan()[0], EngineOptions(device="cuda"))
    assert engine.capabilities.tags["launch"].startswith("queued anew for each batch")
    x = rainy(2, 3, 32, 32)
    torch.testing.assert_close(engine.run(x), right(x, weight), atol=1e-5, rtol=0)


def test_shapes_types_and_profiles(engine):
    with pytest.raises(UsageError, match=r"the plan takes shapes from 1x3x32x32 to 2x3x40x48; .* given 5x3x32x32"):
        engine.run(rainy(5, 3, 32, 32))
    with pytest.raises(UsageError, match=r"must be torch\.float32"):
        engine.run(rainy(1, 3, 32, 32).half())
    with pytest.raises(UsageError, match="out must have the answer's shape"):
        engine.run(rainy(1, 3, 32, 32), torch.empty(1, 3, 32, 33))
    assert nearest((SMALL, LARGE), (2, 3, 32, 32)) == 0
    assert nearest((SMALL, LARGE), (2, 3, 40, 96)) == 1
    for text in ("1x3", "a,b,c", "1x3x64x64,1x3x32x32,1x3x64x64", "1,1"):
        with pytest.raises(UsageError):
            Profile.parse(text + ",")
    assert Profile.parse("1x3x64x64").static


def test_a_static_half_plan(plan, graph, trt, device):
    path, _ = plan(graph((1, 3, 32, 40), TensorProto.FLOAT16), profiles=())
    with pytest.raises(ArtefactError, match="--dtype float16"):
        KIND.open(path, EngineOptions(device="cuda"))
    engine = TensorRTEngine(trt, path.read_bytes(), device)
    assert engine.run(rainy(1, 3, 32, 40).half()).dtype == torch.float16


@pytest.mark.parametrize(
    "call",
    [
        "create_execution_context",
        "set_optimization_profile_async",
        "set_input_shape",
        "infer_shapes",
        "set_tensor_address",
        "execute_async_v3",
    ],
)
def test_a_refused_step_of_a_run_is_a_defect(engine, trt, call):
    trt.fails.add(call)
    with pytest.raises(EngineDefect):
        engine.run(rainy(3, 3, 64, 64))


@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "get_tensor_format", "get_tensor_location"])
def test_a_refused_plan(plan, trt, call):
    path, _ = plan()
    trt.fails.add(call)
    with pytest.raises(ArtefactError, match=r"g\.plan: "):
        KIND.open(path, EngineOptions(device="cuda"))


@pytest.mark.parametrize("call", ["Runtime", "Builder"])
def test_a_factory_that_makes_nothing(plan, trt, call):
    trt.fails.add(call)
    with pytest.raises(EnvironmentProblem, match=f"makes no {call}.*driver"):
        plan()
    (health,) = KIND.health()
    assert not health.works
    assert "driver" in health.detail


@pytest.mark.parametrize(
    "call",
    [
        "create_network",
        "create_builder_config",
        "build_serialized_network",
        "parse_from_file",
        "set_shape",
        "add_optimization_profile",
        "create_timing_cache",
        "set_timing_cache",
        "get_timing_cache",
        "serialize",
        "deserialize_cuda_engine",
        "create_engine_inspector",
    ],
)
def test_a_refused_step_of_a_build_leaves_nothing(plan, trt, tmp_path, call):
    trt.fails.add(call)
    with pytest.raises((ExportError, ArtefactError, EnvironmentProblem), match=r"said no|Wiggle 'wiggle_7'"):
        plan(timing_cache=tmp_path / "times")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.onnx"]


def test_who_answers_for_a_plan(plan, trt, device):
    path, record = plan()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ArtefactError, match="not the file that was vouched for"):
        KIND.open(path, EngineOptions(device="cuda"))
    with pytest.raises(ArtefactError, match="belongs to another plan"):
        KIND.open(path, EngineOptions(device="cuda", vouched=sha256_of(path)))
    path, _ = plan()
    device.gpu = Gpu("Fake 5000", "8.6", "570.1")
    with pytest.raises(ArtefactError, match="was built for Fake 9000"):
        KIND.open(path, EngineOptions(device="cuda"))
    device.gpu = record.gpu
    trt.__version__ = "10.16.1.11"
    with pytest.raises(ArtefactError, match=r"this is 10\.16\.1\.11.*or install tensorrt=="):
        KIND.open(path, EngineOptions(device="cuda"))
    record_path(path).unlink()
    with pytest.raises(ArtefactError, match=f"--vouch {sha256_of(path)}"):
        KIND.open(path, EngineOptions(device="cuda"))
    with pytest.raises(ArtefactError, match="a plan is good for one TensorRT"):
        KIND.open(path, EngineOptions(device="cuda", vouched=sha256_of(path)))


def test_what_a_plan_computes_in_is_said_once(plan, device):
    path, record = plan()
    replace(record, precision="int8").write(path)
    with pytest.raises(ArtefactError, match=r"the build record of .* says int8, and the graph computes fp32 100 %"):
        KIND.open(path, EngineOptions(device="cuda"))
    record.write(path)
    manifest = Manifest(FileRecord.of(path), "int8", "tensorrt", {}, IODescription())
    manifest.write(path.parent)
    with pytest.raises(ArtefactError, match="says int8 and its build record fp32"):
        KIND.open(path, EngineOptions(device="cuda"))
    manifest_path(path).unlink()
    record_path(path).unlink()
    for stated in (None, "int8"):
        options = EngineOptions(device="cuda", vouched=sha256_of(path), precision=stated)
        assert KIND.open(path, options)[0].capabilities.precision == (stated or "unknown")


def test_a_stale_timing_cache_is_refused(plan, device, tmp_path):
    times = tmp_path / "times"
    first = plan(timing_cache=times)[1]
    assert first.timing_cache == sha256_of(times)
    assert plan(timing_cache=times)[1].timing_cache != first.timing_cache
    device.gpu = Gpu("Fake 9000", "9.0", "580.2")
    with pytest.raises(ArtefactError, match=r"stale: .*driver 570\.1 \(here 580\.2\)"):
        plan(timing_cache=times)
    times.write_bytes(b"something else")
    with pytest.raises(ArtefactError, match="no timing cache"):
        plan(timing_cache=times)


def test_profiles_must_fit_the_graph(plan, graph):
    with pytest.raises(UsageError, match="leaves sizes open"):
        plan(profiles=())
    with pytest.raises(UsageError, match="has one shape only"):
        plan(graph((1, 3, 32, 32)))
    with pytest.raises(UsageError, match="does not fit"):
        plan(profiles=(Profile.parse("1x4x32x32"),))


def test_ctrl_c_in_a_callback_stops_the_build(plan, tmp_path):
    said = []

    def tell(text):
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(progress=tell)
    assert said == ["Building", "Building: 1 of 3"]
    assert not (tmp_path / "g.plan").exists()


def test_the_inspector_of_neither_version_is_refused():
    for text in (
        "",
        "{}",
        '{"Bindings": [], "Layers": ["name only"]}',
        '{"Bindings": [], "Layers": [{"Name": 1, "Inputs": [{}]}]}',
    ):
        with pytest.raises(ArtefactError, match="neither"):
            parse(text)


def test_what_is_missing_is_said(monkeypatch, fakes):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EnvironmentProblem, match="is not installed"):
        load()
    monkeypatch.setitem(sys.modules, "tensorrt", fakes.make("8.6.1"))
    with pytest.raises(EnvironmentProblem, match=r"8\.6\.1 is installed"):
        load()
    with pytest.raises(UsageError, match="use --device cuda"):
        open_device("cpu")


def test_a_module_without_its_library(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EnvironmentProblem, match=r"library does not load \(libnvinfer\.so\.11"):
        load()


def test_check_without_tensorrt_ends_with_reason_and_way_out(tmp_path):
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("TensorRT is installed here")
    (tmp_path / "x.plan").write_bytes(b"plan")
    command = [sys.executable, "-m", "deploy_robust", "check", "--engine", "x.plan", "--out", "run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    said = " ".join((ended.stdout + ended.stderr).split())
    assert "TensorRT is not installed" in said
    assert "ONNX Runtime" in said
    assert "Traceback" not in said


@pytest.mark.gpu
def test_on_a_gpu_a_plan_answers_as_torch(graph, tmp_path, weight):
    trt = pytest.importorskip("tensorrt")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    device = open_device("cuda")
    path = tmp_path / "real.plan"
    record = build_plan(trt, graph(), path, BuildSettings(profiles=(SMALL, LARGE)), device)
    engine, io = KIND.open(path, EngineOptions(device="cuda"))
    assert record.layers
    for shape in ((2, 3, 32, 32), (1, 3, 33, 47), (4, 3, 64, 64)):
        x = rainy(*shape)
        torch.testing.assert_close(Restorer(engine, io)(x).cpu(), right(x, weight), atol=1e-5, rtol=0)
