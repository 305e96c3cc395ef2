"""What exporters trace is the same function, and its values leave FP16 range to spare."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from deploy_robust.models.attention import ATTENTIONS
from deploy_robust.models.folding import fold_batch_norm
from deploy_robust.models.registry import MODELS


def _drawn(name: str, **overrides: Any) -> Any:
    """A tiny network whose every weight, bias and running statistic is drawn, in evaluation mode, float64."""
    torch.manual_seed(0)
    model = MODELS.create(name, "tiny", **overrides).double().eval()
    for key, tensor in model.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            tensor.uniform_(-1.0, 1.0)
        elif ".factor.conv2.weight" in key:
            tensor.normal_(0.0, 0.003)  # JORDER-E starts it at zero
    return model


CASES = [(name, {}) for name in MODELS.names()]
CASES += [("rcdnet", {"attention": name}) for name in ATTENTIONS if name != "none"]
CASES += [("jorder-e", {"mask_branch": False}), ("umrl", {"batch_statistics": True}), ("rcdnet", {"stages": 1})]


@pytest.mark.parametrize(("name", "overrides"), CASES, ids=lambda value: str(value))
def test_the_folded_network_is_the_same_function(name: str, overrides: dict[str, Any]) -> None:
    model = _drawn(name, **overrides)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    x = torch.rand(2, 3, 48, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(x)
        folded = model.for_export()
        found = folded(x)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["jorder-e", "rcdnet"])
def test_no_value_inside_a_folded_network_is_far_from_the_range_of_images(name: str) -> None:
    """In 0..255 units the same features are 255 times as large."""
    model = _drawn(name)
    largest = {}
    for key, network in (("plain", model), ("folded", model.for_export())):
        seen: list[float] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, y, seen=seen: seen.append(float(y.abs().max())))
            for layer in network.modules()
            if isinstance(layer, nn.Conv2d)
        ]
        with torch.inference_mode():
            network(torch.rand(1, 3, 32, 32, dtype=torch.float64))
        largest[key] = max(seen)
        for hook in hooks:
            hook.remove()
    assert largest["folded"] < largest["plain"] / 50
    assert largest["folded"] < 100


@pytest.mark.parametrize("name", ["jorder-e", "rcdnet"])
def test_nothing_is_left_to_fold(name: str) -> None:
    folded = _drawn(name).for_export()
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d | nn.ConvTranspose2d)]
    assert not [p for p in folded.parameters() if p.requires_grad]


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_folds_into_a_dilated_convolution(bias: bool) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(3, 5, 3, padding=2, dilation=2, bias=bias).eval()
    norm = nn.BatchNorm2d(5).eval()
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        tensor.uniform_(0.5, 2.0)
    x = torch.rand(1, 3, 12, 9)
    with torch.inference_mode():
        torch.testing.assert_close(fold_batch_norm(conv, norm)(x), norm(conv(x)), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="running statistics"):
        fold_batch_norm(conv, nn.BatchNorm2d(5, track_running_stats=False))
