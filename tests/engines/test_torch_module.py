"""The torch engine: differentiable in its input, frozen in its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploy_robust.engine import Engine
from deploy_robust.engines.torch_module import KIND, TorchEngine
from deploy_robust.errors import EngineDefect, EnvironmentProblem, UsageError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 3, 3, padding=1), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.conv(x))


def test_gradient_reaches_the_input_and_no_parameter():
    torch.manual_seed(0)
    engine = TorchEngine(Net())
    assert isinstance(engine, Engine)
    assert engine.capabilities.differentiable
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(engine.run(x).square().sum(), x)
    assert gradient.abs().min() > 0
    assert not any(p.requires_grad for p in engine.module.parameters())
    # Evaluation mode: dropout would make two runs differ.
    assert torch.equal(engine.run(x), engine.run(x))
    out = torch.empty(1, 3, 8, 8)
    with torch.no_grad():
        assert engine.run(x, out=out) is out


def test_failures_are_defects():
    with pytest.raises(EngineDefect) as crash:
        TorchEngine(nn.Conv2d(4, 3, 1)).run(torch.rand(1, 3, 8, 8))
    assert crash.value.kind == "crash"

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(EngineDefect, match="tuple"):
        TorchEngine(Two()).run(torch.rand(1, 3, 8, 8))


def test_devices():
    with pytest.raises(UsageError, match="unknown device 'tpx'"):
        TorchEngine(Net(), "tpx")
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentProblem, match="--device cpu"):
            TorchEngine(Net(), "cuda")
        cpu, cuda = KIND.health()
        assert cpu.works
        assert not cuda.works
        assert cuda.remedy
