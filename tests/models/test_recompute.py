"""Activation checkpointing: the gradient of the plain network, from fewer tensors that are kept."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from deploy_robust.models.draft import Draft
from deploy_robust.models.recompute import recompute
from deploy_robust.models.registry import MODELS

ZOO = ("prenet", "rescan", "mprnet", "umrl", "jorder-e", "rcdnet", "mprnet-r-seadd-mb")


def frozen(name: str, preset: str = "tiny") -> nn.Module:
    torch.manual_seed(0)
    return MODELS.create(name, preset).eval().requires_grad_(False)


def gradient_of(network, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    z = x.clone().requires_grad_()
    y = network(z)
    (gradient,) = torch.autograd.grad(y.square().sum(), z)
    return y.detach(), gradient


@pytest.mark.parametrize("name", ZOO)
def test_image_and_gradient_stay_as_they_are_to_the_bit(name):
    network, x = frozen(name), torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    plain = gradient_of(network, x)
    assert recompute(network)
    for before, now in zip(plain, gradient_of(network, x), strict=True):
        assert torch.equal(before, now)


def kept(network: nn.Module, x: torch.Tensor) -> int:
    """Outputs of layers that are still held between the forward and the backward pass."""
    alive: list[weakref.ref[torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda *call: alive.append(weakref.ref(call[-1])))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    y = network(x.clone().requires_grad_())
    found = sum(each() is not None for each in alive)
    for hook in hooks:
        hook.remove()
    assert y.requires_grad
    return found


def test_of_the_ensemble_almost_nothing_is_kept():
    network, x = frozen("mprnet-r-seadd-mb"), torch.rand(1, 3, 32, 32)
    before = kept(network, x)
    parts = recompute(network)
    assert any(name.count(".") == 1 for name in parts), "the three networks of the cascade"
    assert kept(network, x) <= 0.05 * before


def test_a_network_of_one_layer_has_no_parts():
    assert recompute(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))) == ()


def test_a_draft_computes_the_network_in_fewer_digits_and_leaves_it_alone():
    network, x = frozen("prenet", "small"), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    draft = Draft(network, torch.device("cpu"))
    (y, gradient), (rough, sloppy) = gradient_of(network, x), gradient_of(draft, x)
    assert rough.dtype == sloppy.dtype == torch.float32
    assert {p.dtype for p in draft.parameters()} == {torch.bfloat16}
    assert 0 < (rough - y).abs().max() < 0.02
    assert torch.cosine_similarity(gradient.flatten(), sloppy.flatten(), dim=0) > 0.99
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_draft_serves_networks_that_make_float32_on_the_way():
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(6, 3, 3, padding=1)

        def forward(self, x):
            return x + self.conv(torch.cat([x, torch.zeros(x.shape)], 1))

    torch.manual_seed(0)
    network, x = Stateful().eval(), torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(Draft(network, torch.device("cpu"))(x), network(x), atol=0.02, rtol=0)
