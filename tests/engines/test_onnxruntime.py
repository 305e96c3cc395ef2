"""The ONNX Runtime engine against torch's own convolution, in every form that a foreign network may have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.engine import Engine, EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError
from deploy_robust.restorer import Restorer


def rainy(*shape: int) -> torch.Tensor:
    """8-bit values in [0, 1], so that a uint8 engine sees them unrounded."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3)).float() / 255


def restorer(path, **overrides) -> Restorer:
    io = describe(path, overrides)
    return Restorer(*KIND.open(path, EngineOptions(io=io, threads=1)))


def test_float_graph_answers_as_torch_at_any_size_and_batch(graphs, tmp_path):
    engine = restorer(graphs.conv_graph(tmp_path / "a.onnx"))
    assert isinstance(engine.engine, Engine)
    for shape in ((1, 3, 33, 47), (4, 3, 64, 40)):
        x = rainy(*shape)
        torch.testing.assert_close(engine(x), F.conv2d(x, graphs.WEIGHT, padding=1), atol=1e-5, rtol=0)


def test_nhwc_uint8_graph_needs_no_flag(graphs, tmp_path):
    x = rainy(2, 3, 40, 36)
    engine = restorer(graphs.nhwc_uint8_graph(tmp_path / "a.onnx"))
    assert (engine.io.layout, engine.io.dtype, engine.io.range) == ("NHWC", "uint8", (0.0, 255.0))
    torch.testing.assert_close(engine(x), F.conv2d(x, graphs.WEIGHT, padding=1), atol=1e-5, rtol=0)


def test_bgr_range_mean_and_std_are_applied(graphs, tmp_path):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    engine = restorer(
        graphs.conv_graph(tmp_path / "a.onnx"), colour="BGR", mean=mean, std=std, output_range=(-1.0, 1.0)
    )
    x = rainy(1, 3, 32, 32)
    native = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    right = (F.conv2d(native.flip(1), graphs.WEIGHT, padding=1).flip(1) + 1) / 2
    torch.testing.assert_close(engine(x), right, atol=1e-5, rtol=0)


def test_fixed_size_and_batch_are_read_from_the_graph(graphs, tmp_path):
    engine = restorer(graphs.conv_graph(tmp_path / "a.onnx", shape=(2, 3, 48, 64)))
    assert engine.io.size == SizeRule(fixed=(48, 64))
    assert engine.io.batch == 2
    x = rainy(3, 3, 40, 50)
    padded = F.pad(x, (0, 14, 0, 8), mode="reflect")
    right = F.conv2d(padded, graphs.WEIGHT, padding=1)[..., :40, :50]
    torch.testing.assert_close(engine(x), right, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match="48x64 only"):
        engine(rainy(1, 3, 49, 64))


def test_half_graph(graphs, tmp_path):
    engine = restorer(graphs.half_graph(tmp_path / "a.onnx"))
    assert engine.io.dtype == "float16"
    assert engine.capabilities.precision == "fp16"
    x = rainy(1, 3, 32, 32)
    torch.testing.assert_close(engine(x), F.conv2d(x, graphs.WEIGHT, padding=1), atol=5e-3, rtol=0)


def test_out_is_written_in_place(graphs, tmp_path):
    engine, _ = KIND.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions())
    x = rainy(1, 3, 32, 32)
    out = torch.empty_like(x)
    assert engine.run(x, out=out) is out
    torch.testing.assert_close(out, engine.run(x), atol=0, rtol=0)


def test_pointers_are_only_taken_of_tensors_that_lie_as_declared(graphs, tmp_path):
    """A pointer says nothing of strides: a transposed view would be read as another image."""
    engine, _ = KIND.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions())
    x = rainy(1, 3, 32, 32)
    strided = x.transpose(2, 3)
    assert not strided.is_contiguous()
    with pytest.raises(UsageError, match="the input must be contiguous"):
        engine.run(strided, out=torch.empty_like(x))
    with pytest.raises(UsageError, match="out must be contiguous"):
        engine.run(x, out=torch.empty_like(x).transpose(2, 3))
    with pytest.raises(UsageError, match="the input must be contiguous"):
        engine.run(x.double(), out=torch.empty_like(x))
    torch.testing.assert_close(engine.run(strided), engine.run(strided.contiguous()), atol=0, rtol=0)


def test_capabilities_say_what_runs(graphs, tmp_path):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    engine, _ = KIND.open(path, EngineOptions(threads=1, arithmetic="literal"))
    found = engine.capabilities
    assert (found.provider, found.threads, found.arithmetic) == ("CPUExecutionProvider", 1, "literal")
    assert KIND.open(path, EngineOptions())[0].capabilities.arithmetic == "fused"
    assert not found.differentiable


def test_failure_inside_the_graph_is_a_defect(graphs, tmp_path, capfd):
    engine, _ = KIND.open(graphs.crashing_graph(tmp_path / "a.onnx"), EngineOptions())
    with pytest.raises(EngineDefect) as caught:
        engine.run(rainy(1, 3, 48, 48))
    assert caught.value.kind == "crash"
    assert capfd.readouterr().err == ""


def test_input_that_the_graph_does_not_declare_is_no_defect(graphs, tmp_path):
    engine, _ = KIND.open(graphs.conv_graph(tmp_path / "a.onnx", shape=(1, 3, 48, 48)), EngineOptions())
    with pytest.raises(UsageError, match="the graph takes"):
        engine.run(rainy(1, 3, 40, 40))
    with pytest.raises(UsageError, match="the graph takes"):
        engine.run(rainy(1, 3, 48, 48).double())


def test_closing_twice_is_harmless_and_running_afterwards_is_not(graphs, tmp_path):
    engine, _ = KIND.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions())
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(rainy(1, 3, 32, 32))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_on_a_machine_without_gpu_is_an_error(graphs, tmp_path, capfd):
    with pytest.raises(EnvironmentProblem, match="--device cpu"):
        KIND.open(graphs.conv_graph(tmp_path / "a.onnx"), EngineOptions(device="cuda"))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_health_is_found_out_by_running():
    cpu, *on_gpu = KIND.health()
    assert cpu.works
    assert not cpu.remedy
    assert [each.name.split(" / ")[1] for each in on_gpu] == ["CUDAExecutionProvider", "TensorrtExecutionProvider"]
    for each in on_gpu:
        assert not each.works
        assert each.detail
        assert each.remedy


def test_unknown_and_unfitting_providers(graphs, tmp_path):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="unknown provider 'FastProvider'"):
        KIND.open(path, EngineOptions(provider="FastProvider"))
    for name in ("CUDAExecutionProvider", "cuda", "TensorrtExecutionProvider", "tensorrt,cuda"):
        with pytest.raises(UsageError, match="use --device cuda"):
            KIND.open(path, EngineOptions(provider=name))
    with pytest.raises(UsageError, match="always fuses"):
        KIND.open(path, EngineOptions(device="cuda", provider="tensorrt", arithmetic="literal"))
    with pytest.raises(UsageError, match="compute 'f16'"):
        KIND.open(path, EngineOptions(compute="f16"))


def test_description_that_the_graph_contradicts(graphs, tmp_path):
    path = graphs.conv_graph(tmp_path / "a.onnx")
    with pytest.raises(ArtefactError, match="--dtype float32"):
        describe(path, {"dtype": "uint8"})
    with pytest.raises(ArtefactError, match="--layout"):
        describe(graphs.nhwc_uint8_graph(tmp_path / "b.onnx"), {"layout": "NCHW"})
