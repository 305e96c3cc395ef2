"""`benchmarks/gpu.py` where there is no GPU: it says so, and its parts compute what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_measure
    import gpu_paths

    monkeypatch.setattr(gpu_measure, "SECONDS", 0.01)
    return gpu, gpu_measure, gpu_paths


def test_without_a_gpu_it_says_so_and_exits_2(tmp_path):
    ended = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(tmp_path / "out.json")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
    )
    assert ended.returncode == 2
    assert ended.stdout.startswith("no NVIDIA GPU that torch")
    assert not list(tmp_path.iterdir())


def test_seconds_are_those_of_one_step(parts, monkeypatch):
    _, measure, _ = parts
    now = [0.0]

    def step():
        now[0] += 0.004

    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert measure.seconds(step, torch.device("cpu")) == pytest.approx(0.004)


def test_operations_are_counted_and_the_limit_is_the_longer_of_two(parts):
    _, measure, _ = parts
    network = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    work = measure.operations(network, torch.rand(2, 3, 16, 16))
    assert work == 2 * 2 * 8 * 3 * 3 * 3 * 16 * 16
    rates = {"matmul fp32, operations/s": 100.0, "copy on device, bytes/s": 10.0}
    assert measure.least_seconds(1000, 50, rates, "fp32") == 10.0
    assert measure.least_seconds(1000, 500, rates, "fp32") == 50.0


def test_parity_and_attack_are_measured_and_the_attack_stays_in_its_ball(parts):
    from deploy_robust.engines.torch_module import TorchEngine
    from deploy_robust.restorer import Restorer

    gpu, _, _ = parts
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1).eval().requires_grad_(False)
    same = gpu.parity_of(network, Restorer(TorchEngine(network)))
    assert (same["psnr_db"], same["holds"]) == ("identical", True)
    other = torch.nn.Conv2d(3, 3, 3, padding=1).eval()
    assert gpu.parity_of(network, Restorer(TorchEngine(other)))["holds"] is False
    x = gpu.images(2, 40, 48)
    moved = gpu.crafted(network, x)
    codes = moved * 255
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert 0 < (moved - x).abs().max() <= 2.5 / 255 + 1e-6
    found = gpu.attack_of(network, torch.device("cpu"), 1, 32)
    assert found["the attack over 20 steps"] == pytest.approx(
        found["20 steps, images/s"] / found["the attack, images/s"], rel=1e-6
    )


def test_a_search_is_measured_and_finds_on_a_cpu_what_it_finds_on_a_cpu(parts):
    import gpu_searches

    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1).eval().requires_grad_(False)
    gpu, _, _ = parts
    found = gpu_searches.search_of(network, network, gpu.images(2, 16, 24), queries=30)
    assert found["PSNR"] == found["PSNR on a CPU"]
    assert found["of the bare engine"] > 0
    assert (found["copies per query"], found["waits per query"]) == (None, None)


def test_an_engine_that_is_not_there_gives_its_reason(parts, tmp_path):
    _, _, paths = parts
    file = tmp_path / "a.onnx"
    file.write_bytes(b"x")
    label, _, why = paths.opened("onnxruntime", "label", file, "cpu", None)
    assert (label, why.startswith("ArtefactError:")) == ("label", True)
    _, _, why = paths.opened("npu", "label", file, "cpu", None)
    assert "npu" in why
