"""Tiles: the whole image and the whole gradient, or a refusal with a reason."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deploy_robust.engine import Engine
from deploy_robust.engines.captured import CapturedEngine
from deploy_robust.engines.tiled import TiledEngine, receptive_radius
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.errors import UsageError
from deploy_robust.models.registry import MODELS


def convolutions(*kernels: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for k in kernels for layer in (nn.Conv2d(3, 3, k, padding=k // 2), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Strides: pixels of a cell of four reach differently far."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Tanh(), nn.Conv2d(4, 4, 2, 2))
        self.up = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh(), nn.ConvTranspose2d(4, 3, 4, 4))

    def forward(self, x):
        return x + self.up(self.down(x))


def brute_radius(network: nn.Module, side: int) -> int:
    """By gradients of every output to every input."""
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x).sum((0, 1)), torch.rand(1, 3, side, side))
    depends = (jacobian[:, :, 0] != 0).any(2)  # output row, output column, input row, input column
    rows = depends.any(3).any(1).nonzero()
    return int((rows[:, 0] - rows[:, 1]).abs().max())


@pytest.mark.parametrize(("network", "multiple"), [(convolutions(3, 5), 1), (convolutions(7), 1), (UNet(), 4)])
def test_the_radius_is_that_of_all_gradients(network, multiple):
    engine = TorchEngine(network)
    assert receptive_radius(engine, multiple) == brute_radius(network, 16)


@given(height=st.integers(9, 40), width=st.integers(9, 40), tile=st.integers(1, 24), strided=st.booleans())
@settings(deadline=None, max_examples=12, derandomize=True)
def test_tiles_give_image_and_gradient_of_the_whole(height, width, tile, strided):
    network, multiple = (UNet(), 4) if strided else (convolutions(3, 5), 1)
    engine = TorchEngine(network.double())
    tiled = TiledEngine(_Single(engine), tile, multiple)
    size = [4 * each if strided else each for each in (height // multiple, width // multiple)]
    x = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    found = []
    for run in (engine.run, tiled.run):
        z = x.clone().requires_grad_()
        y = run(z)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        found.append((y.detach(), *torch.autograd.grad((weights * y.square()).sum(), z)))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


class _Single:
    """Takes float32 too, which is what probing sends."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine, self.capabilities, self.close = engine, engine.capabilities, engine.close

    def run(self, batch, out=None):
        return self._engine.run(batch.double(), out).to(batch.dtype)


def test_a_network_of_the_zoo_in_tiles_keeps_its_gradient():
    torch.manual_seed(0)
    engine = TorchEngine(MODELS.create("prenet", "tiny"))
    tiled = TiledEngine(engine, 32)
    assert isinstance(tiled, Engine)
    x = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole, parts = (torch.autograd.grad(run(x).square().mean(), x)[0] for run in (engine.run, tiled.run))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-9)
    out = torch.empty(1, 3, 96, 64)
    with torch.no_grad():
        assert tiled.run(x, out=out) is out


class Positional(nn.Module):
    """Each half of the image has a network of its own, as in MPRNet's first stage without attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        top, bottom = x.chunk(2, 2)
        return torch.cat([self.conv(top), 2 * self.conv(bottom)], 2)


@pytest.mark.parametrize(
    ("network", "multiple", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Upsample(64)), 64, "pools globally"),
        (Positional(), 2, "by where they lie"),
    ],
)
def test_what_cannot_be_tiled_is_refused_with_a_reason(network, multiple, words):
    with pytest.raises(UsageError, match=words):
        TiledEngine(TorchEngine(network), 16, multiple)


def test_attention_over_the_whole_image_is_refused(monkeypatch):
    monkeypatch.setattr("deploy_robust.engines.tiled.PROBE", 128)
    engine = TorchEngine(MODELS.create("rescan", "tiny"))
    with pytest.raises(UsageError, match="pools globally"):
        TiledEngine(engine, 16)


def test_kernels_are_captured_on_a_gpu_only():
    with pytest.raises(UsageError, match="leave --cuda-graph out"):
        CapturedEngine(TorchEngine(convolutions(3)))
