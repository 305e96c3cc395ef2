"""The torch engine: differentiable in its input, frozen in its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deploy_robust.engine import Engine
from deploy_robust.engines.torch_module import KIND, TorchEngine
from deploy_robust.errors import EngineDefect, EnvironmentProblem, UsageError
from deploy_robust.models.registry import MODELS


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


@pytest.mark.parametrize("name", ["prenet", "rescan", "mprnet", "umrl"])
def test_a_network_of_the_zoo_computes_channels_last_and_nobody_outside_sees_it(name):
    torch.manual_seed(0)
    network = MODELS.create(name, "tiny").eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(x)
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((network(z) - x).square().sum(), z)

    inside = []
    hook = network.register_forward_pre_hook(lambda _, given: inside.append(given[0]))
    found = TorchEngine(network).run(z)
    (gradient,) = torch.autograd.grad((found - x).square().sum(), z)
    hook.remove()
    assert inside[0].is_contiguous(memory_format=torch.channels_last)
    assert not inside[0].is_contiguous()
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert (gradient - slope).abs().max() <= 1e-4 * slope.abs().max()


def test_another_module_may_rely_on_the_layout_that_torch_gives():
    class Flattening(nn.Module):
        def forward(self, x):
            return x.view(x.shape[0], -1).view_as(x) * 2  # a view of channels last is refused

    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(TorchEngine(Flattening()).run(x), 2 * x)


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
