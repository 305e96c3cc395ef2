"""What only an NVIDIA GPU can show: run with ``pytest -m gpu``; every test says why it skips elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.errors import EnvironmentProblem, UsageError
from deploy_robust.gate.parity import CONVERSION, parity
from deploy_robust.models.checkpoints import load_any
from deploy_robust.restorer import Restorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU here"),
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def no_tf32():
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def rainy(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def open_on_gpu(path: Path, provider: str) -> Restorer:
    """On a provider, or skipped with the reason why it does not come up on this machine."""
    health = {each.name.split(" / ")[1]: each for each in KIND.health()}
    name = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}[provider]
    if not health[name].works:
        pytest.skip(f"{name}: {health[name].detail}")
    return Restorer(*KIND.open(path, EngineOptions(device="cuda", provider=provider)))


@pytest.fixture(scope="module")
def network():
    return load_any("prenet-small")[0].for_export().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def graph(network, tmp_path_factory) -> Path:
    """Sizes are dynamic, so that it holds arithmetic on sizes, which ONNX Runtime leaves on the CPU."""
    import onnx

    from deploy_robust.artefact.io_description import SizeRule
    from deploy_robust.exporters.onnx_fp32 import to_onnx

    path = tmp_path_factory.mktemp("graph") / "prenet-small.onnx"
    onnx.save(to_onnx(network, SizeRule()), path)
    return path


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_convolution_stays_on_the_device(graphs, tmp_path, provider):
    engine = open_on_gpu(graphs.conv_graph(tmp_path / "a.onnx"), provider).engine
    x = rainy(2, 3, 64, 48).cuda()
    answer = engine.run(x)
    assert answer.device == x.device
    torch.testing.assert_close(answer.cpu(), F.conv2d(x.cpu(), graphs.WEIGHT, padding=1), atol=1e-5, rtol=0)
    out = torch.empty_like(x)
    assert engine.run(x, out=out) is out
    assert torch.equal(out, answer)
    with pytest.raises(UsageError, match="must be contiguous"):
        engine.run(x.cpu())
    with pytest.raises(UsageError, match="must be contiguous"):
        engine.run(x.transpose(2, 3))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_network_of_the_zoo_keeps_parity_and_copies_nothing(network, graph, provider):
    import sys as system

    system.path.insert(0, str(ROOT / "benchmarks"))
    import gpu_measure

    restorer = open_on_gpu(graph, provider)
    images = [rainy(1, 3, height, width) for height, width in ((64, 96), (97, 61), (33, 200))] * 3
    # The TensorRT provider has no switch for TF32.
    bound = CONVERSION["fp32" if provider == "cuda" else "fp16"]
    assert all(bound.holds(figure) for figure in parity(network, restorer, images))
    x = rainy(2, 3, 128, 128).cuda()
    seen = gpu_measure.copies(lambda: restorer(x), torch.device("cuda", 0))
    if seen is None:
        pytest.skip("the profiler sees no kernel on this machine, so that it proves nothing")
    assert (seen["to host"], seen["to device"]) == (0, 0)


def test_a_graph_that_cuda_cannot_run_is_refused_and_named(tmp_path):
    """Bits are shifted by ONNX Runtime's CPU provider alone."""
    import onnx

    shape = ["n", 3, "h", "w"]
    made = helper.make_graph(
        [helper.make_node("BitShift", ["x", "one"], ["y"], direction="RIGHT")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        [helper.make_tensor("one", TensorProto.UINT8, [1], np.array([1], np.uint8))],
    )
    path = tmp_path / "shift.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(EnvironmentProblem, match="BitShift"):
        open_on_gpu(path, "cuda")


def test_the_torch_engine_agrees_with_the_cpu(network):
    import copy

    on_gpu = Restorer(TorchEngine(copy.deepcopy(network), "cuda"))
    images = [rainy(1, 3, 64, 96), rainy(1, 3, 97, 61)]
    assert all(CONVERSION["fp32"].holds(figure) for figure in parity(network.cpu(), on_gpu, images))


def test_pgd_finds_as_much_on_the_gpu(network):
    """Sign steps amplify rounding: the iterates differ and what they reach must not."""
    import copy

    reached = []
    for device in ("cpu", "cuda"):
        net = copy.deepcopy(network).to(device)
        x = rainy(2, 3, 48, 48).to(device)
        with torch.no_grad():
            clean = net(x)
        eps = torch.full((2, 1, 1, 1), 2 / 255, device=device)
        task = Task(x=x, eps=eps, seed=0, keys=(("a",), ("b",)), restore=net, clean_output=clean)
        images = pgd_lmse(iterations=10).craft(task).images
        assert (images - x).abs().max() <= 2 / 255 + 1e-6
        with torch.no_grad():
            reached.append((net(images) - clean).square().mean().item())
    assert reached[1] == pytest.approx(reached[0], rel=0.1)


@pytest.mark.parametrize("way", ["torch", "cuda", "tensorrt"])
def test_a_search_stays_on_the_device_and_finds_as_much_as_on_a_cpu(network, graph, way):
    """One more query copies nothing and waits for nothing, and the PSNR that is left is the CPU's within 0.1 dB."""
    import copy
    import sys as system

    system.path.insert(0, str(ROOT / "benchmarks"))
    import gpu_searches

    engine = Restorer(TorchEngine(copy.deepcopy(network), "cuda")) if way == "torch" else open_on_gpu(graph, way)
    found = gpu_searches.search_of(engine, network, rainy(2, 3, 64, 64).cuda())
    assert found["waits per query"] == 0
    if way != "tensorrt":  # whose provider has no switch for TF32
        assert found["PSNR"] == pytest.approx(found["PSNR on a CPU"], abs=0.1)
    if found["copies per query"] is None:
        pytest.skip("the profiler sees no kernel on this machine, so that it proves nothing")
    assert found["copies per query"] == 0


def test_a_captured_graph_answers_as_the_kernels_one_by_one(network):
    import copy
    import sys as system

    system.path.insert(0, str(ROOT / "benchmarks"))
    import gpu_measure

    net, x = copy.deepcopy(network).cuda(), rainy(2, 3, 64, 64).cuda()
    with torch.no_grad():
        replay = gpu_measure.captured(lambda: net(x), x.device)
        x.copy_(rainy(2, 3, 64, 64).flip(0))
        torch.testing.assert_close(replay(), net(x), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_benchmark_runs_and_says_what_cannot(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--quick", "--out", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    rows = {row["engine"]: row for row in found["engines"]}
    assert rows["torch fp32"]["parity"]["holds"]
    assert all("cannot run" in row or row["images/s"] > 0 for row in rows.values())
    assert found["limits"]["matmul fp32, operations/s"] > 0


def test_a_captured_graph_gives_the_gradient_of_every_shape(network):
    from deploy_robust.engines.captured import CapturedEngine

    engine = TorchEngine(network, "cuda")
    captured = CapturedEngine(engine)
    for shape in ((1, 3, 32, 48), (2, 3, 32, 32), (1, 3, 32, 48)):
        x = rainy(*shape).cuda().requires_grad_()
        plain, graph = (torch.autograd.grad(run(x).square().sum(), x)[0] for run in (engine.run, captured.run))
        torch.testing.assert_close(graph, plain, rtol=1e-4, atol=1e-6)
