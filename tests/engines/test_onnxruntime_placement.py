"""Where nodes ran, in which arithmetic, and that nothing is copied on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.engines.onnxruntime_placement import Placement
from deploy_robust.engines.onnxruntime_session import CPU, CUDA, open_session, place, provider_options
from deploy_robust.errors import EnvironmentProblem
from deploy_robust.restorer import Restorer


@pytest.fixture
def quantised(graphs, tmp_path) -> Path:
    """x -> Q/DQ -> Conv of a Q/DQ weight -> Q/DQ."""
    image = np.random.default_rng(0).random((1, 3, 48, 48), dtype=np.float32)

    class Once:
        def __init__(self) -> None:
            self.left = [{"x": image}]

        def get_next(self):
            return self.left.pop() if self.left else None

    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = tmp_path / "int8.onnx"
    quantize_static(
        graphs.conv_graph(tmp_path / "a.onnx"),
        path,
        Once(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def profiled(path: Path, options: EngineOptions, folder: Path, image: torch.Tensor) -> Placement:
    session = open_session(path, place(options), options, "int8", profile=folder / "profile")
    session.run(None, {session.get_inputs()[0].name: image.numpy()})
    session.run(None, {session.get_inputs()[0].name: image.numpy()})
    return Placement.read(Path(session.end_profiling()))


def test_literal_runs_the_operators_of_the_graph_and_fused_replaces_them(quantised, tmp_path):
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    written = [node.op_type for node in onnx.load(quantised).graph.node]
    assert "QLinearConv" not in written
    literal = profiled(quantised, EngineOptions(arithmetic="literal"), tmp_path, image)
    assert sorted(literal.operators().elements()) == sorted(written)
    fused = profiled(quantised, EngineOptions(arithmetic="fused"), tmp_path, image)
    assert fused.operators()["QLinearConv"] == 1
    assert fused.operators()["Conv"] == 0
    assert KIND.open(quantised, EngineOptions(arithmetic="literal"))[0].capabilities.arithmetic == "literal"
    assert KIND.open(quantised, EngineOptions())[0].capabilities.arithmetic == "fused"


def test_literal_computes_what_the_literal_engine_computes(quantised):
    from deploy_robust.engines.literal import KIND as LITERAL

    image = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    right = Restorer(*LITERAL.open(quantised, EngineOptions()))(image)
    literal = Restorer(*KIND.open(quantised, EngineOptions(arithmetic="literal", threads=1)))(image)
    # A sum that differs in its last bit may cross the edge between two codes of the output's quantiser.
    step = (right.unique()[1:] - right.unique()[:-1]).min()
    assert (right - literal).abs().max() <= step * 1.01
    assert ((right - literal).abs() > step / 2).float().mean() < 1e-3


def test_a_profile_tells_the_image_from_arithmetic_on_its_size(tmp_path):
    """As a GPU session writes it: the form is what 1.31 writes on a CPU, the providers are changed."""

    def event(name: str, kind: str, provider: str, shape: list[int], element: str = "float") -> dict[str, object]:
        args = {"op_name": kind, "provider": provider, "input_type_shape": [], "output_type_shape": [{element: shape}]}
        return {"cat": "Node", "name": f"{name}_kernel_time", "args": args}

    image, pixels = [1, 3, 64, 64], 64 * 64
    sound = [
        {"cat": "Session", "name": "model_run", "args": {}},
        event("conv", "Conv", CUDA, image),
        event("conv", "Conv", CUDA, image),
        event("size", "Shape", CPU, [4], "int64"),
        event("move", "MemcpyFromHost", CUDA, [4], "int64"),
    ]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(sound))
    ran = Placement.read(profile)
    assert str(ran) == f"{CUDA} 2, {CPU} 1"
    assert not ran.elsewhere([CUDA], pixels)
    assert not ran.copies(pixels)

    profile.write_text(json.dumps([*sound, event("up", "Resize", CPU, image), event("m", "MemcpyToHost", CUDA, image)]))
    ran = Placement.read(profile)
    assert [node.name for node in ran.elsewhere([CUDA], pixels)] == ["up"]
    assert not ran.elsewhere([CUDA, CPU], pixels)
    assert [node.name for node in ran.copies(pixels)] == ["m"]


def test_providers_are_told_everything_that_a_card_would_choose():
    device = torch.device("cuda", 1)
    cuda = provider_options(CUDA, device, "fp32", 7)
    assert (cuda["use_tf32"], cuda["device_id"], cuda["user_compute_stream"]) == ("0", "1", "7")
    for precision, allowed in (("fp32", ""), ("fp16", "trt_fp16_enable"), ("int8", "trt_int8_enable")):
        told = provider_options("TensorrtExecutionProvider", device, precision, None)
        assert [name for name, on in told.items() if name.startswith("trt_") and on == "1"] == (
            [allowed] * bool(allowed)
        )
    assert provider_options(CPU, torch.device("cpu"), "fp32", None) == {}


def test_on_a_cpu_the_session_reads_and_writes_the_callers_memory(graphs, tmp_path, monkeypatch):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    engine, _ = KIND.open(path, EngineOptions(threads=1))
    bound: list[tuple[str, int]] = []

    class Seen(onnxruntime.IOBinding):  # the real one, which also writes down the addresses
        def bind_input(self, *args) -> None:
            bound.append(("in", args[-1]))
            super().bind_input(*args)

        def bind_output(self, *args) -> None:
            bound.append(("out", args[-1]))
            super().bind_output(*args)

    monkeypatch.setattr(engine.session, "io_binding", lambda: Seen(engine.session))
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(x)
    places = [("in", x.data_ptr()), ("out", out.data_ptr())]
    for _ in range(3):
        assert engine.run(x, out=out).data_ptr() == out.data_ptr()
    assert bound == places * 3
    answer = engine.run(x)
    assert torch.equal(answer, out)
    assert answer.data_ptr() != x.data_ptr()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_provider_on_a_machine_without_one_is_an_error(graphs, tmp_path, capfd, provider):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    with pytest.raises(EnvironmentProblem, match=r"torch sees no GPU.*(--device cpu|--provider cuda)"):
        KIND.open(path, EngineOptions(device="cuda", provider=provider))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_facts_of_the_quantised_graph(quantised):
    assert inspect(quantised).precision == "int8"


def test_without_onnxruntime_the_error_teaches(graphs, tmp_path, monkeypatch):
    import sys

    path = graphs.conv_graph(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EnvironmentProblem, match="reinstall onnxruntime-gpu"):
        KIND.open(path, EngineOptions())
    assert [health.works for health in KIND.health()] == [False, False, False]
