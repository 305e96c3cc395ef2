"""Attention modules against references written straight from their equations, in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from deploy_robust.errors import UsageError
from deploy_robust.models.attention import ATTENTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Weights = dict[str, Array]

CHANNELS, REDUCTION = 12, 4


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def linear(w: Weights, layer: str, g: Array) -> Array:
    """A 1x1 convolution of a vector (C)."""
    y = w[f"{layer}.weight"][:, :, 0, 0] @ g
    return y + w[f"{layer}.bias"] if f"{layer}.bias" in w else y


def batch_norm(w: Weights, layer: str, x: Array) -> Array:
    """Evaluation mode, channels first."""
    mean, variance, weight, bias = (
        w[f"{layer}.{name}"].reshape(-1, *[1] * (x.ndim - 1))
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def convolve(kernels: Array, x: Array, dilation: int = 1) -> Array:
    """Zero-padded convolution, (C, H, W) to (outputs, H, W), by scipy."""
    if dilation > 1:
        spread = np.zeros((*kernels.shape[:2], *(dilation * (n - 1) + 1 for n in kernels.shape[2:])))
        spread[..., ::dilation, ::dilation] = kernels
        kernels = spread
    return np.stack(
        [
            sum(correlate(plane, kernel, mode="constant") for plane, kernel in zip(x, row, strict=True))
            for row in kernels
        ]
    )


def excite(w: Weights, g: Array) -> Array:
    return linear(w, "excitation.expand", np.maximum(linear(w, "excitation.reduce", g), 0))


def se_mul(w: Weights, x: Array) -> Array:
    return x * sigmoid(excite(w, x.mean(axis=(1, 2))))[:, None, None]


def se_add(w: Weights, x: Array) -> Array:
    return x + excite(w, x.mean(axis=(1, 2)))[:, None, None]


def cbam(w: Weights, x: Array) -> Array:
    channel = sigmoid(excite(w, x.mean(axis=(1, 2))) + excite(w, x.max(axis=(1, 2))))
    x = x * channel[:, None, None]
    return x * sigmoid(convolve(w["spatial.weight"], np.stack([x.mean(axis=0), x.max(axis=0)])))


def context(w: Weights, x: Array) -> Array:
    query = np.einsum("oc,chw->ohw", w["context.query.weight"][:, :, 0, 0], x)[0] + w["context.query.bias"]
    weights = np.exp(query) / np.exp(query).sum()
    hidden = linear(w, "context.reduce", np.einsum("hw,chw->c", weights, x))
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    hidden = hidden * w["context.norm.weight"].ravel() + w["context.norm.bias"].ravel()
    return linear(w, "context.expand", np.maximum(hidden, 0))[:, None, None]


def sk(w: Weights, x: Array) -> Array:
    u = [np.maximum(batch_norm(w, f"branch{k}.1", convolve(w[f"branch{k}.0.weight"], x, k)), 0) for k in (1, 2)]
    z = np.maximum(batch_norm(w, "reduce.1", linear(w, "reduce.0", (u[0] + u[1]).mean(axis=(1, 2)))), 0)
    scores = np.exp([linear(w, f"select{k}", z) for k in (1, 2)])
    a = scores / scores.sum(axis=0)
    return a[0][:, None, None] * u[0] + a[1][:, None, None] * u[1]


REFERENCES: dict[str, Callable[[Weights, Array], Array]] = {
    "none": lambda _, x: x,
    "se-mul": se_mul,
    "se-add": se_add,
    "cbam": cbam,
    "gc-mul": lambda w, x: x * sigmoid(context(w, x)),
    "gc-add": lambda w, x: x + context(w, x),
    "sk": sk,
}


def _filled(name: str) -> tuple[Any, torch.Tensor]:
    """A module in float64 whose every weight and statistic is drawn, and a batch."""
    random = torch.Generator().manual_seed(3)
    module = ATTENTIONS[name](CHANNELS, REDUCTION).double().eval()
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            draw = torch.rand(tensor.shape, generator=random, dtype=torch.float64)
            tensor.copy_(0.5 + draw if "var" in key else 2 * draw - 1)
    return module, torch.randn(2, CHANNELS, 9, 7, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_each_module_is_its_equations(name: str) -> None:
    module, x = _filled(name)
    weights = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    expected = np.stack([REFERENCES[name](weights, row) for row in x.numpy()])
    with torch.inference_mode():
        np.testing.assert_allclose(module(x).numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("name", list(ATTENTIONS))
def test_folding_moves_a_module_to_other_units_and_changes_nothing_else(name: str) -> None:
    module, x = _filled(name)
    with torch.inference_mode():
        expected = module(255 * x) / 255
        module.fold(255.0)
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-9)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("name", ["se-mul", "se-add", "cbam", "gc-mul", "gc-add"])
def test_silent_last_layers_leave_the_input_or_a_constant_part_of_it(name: str) -> None:
    module, x = _filled(name)
    for layer in (module.excitation if hasattr(module, "excitation") else module.context).expand.parameters():
        torch.nn.init.zeros_(layer)
    if name == "cbam":
        torch.nn.init.zeros_(module.spatial.weight)
    share = {"se-add": 1.0, "gc-add": 1.0, "se-mul": 0.5, "gc-mul": 0.5, "cbam": 0.25}[name]
    torch.testing.assert_close(module(x), share * x)


@pytest.mark.parametrize("name", list(ATTENTIONS))
@pytest.mark.parametrize("channels", [1, 3, 35])
def test_any_number_of_channels_and_gradients_pass(name: str, channels: int) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, channels, 8, 10, requires_grad=True)
    y = ATTENTIONS[name](channels)(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_squeeze_excitation_has_the_published_size() -> None:
    """No biases, reduction 4: 2 C (C // 4)."""
    for channels, count in ((32, 512), (35, 560)):
        assert sum(p.numel() for p in ATTENTIONS["se-mul"](channels).parameters()) == count


def test_impossible_sizes_and_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="reduction"):
        ATTENTIONS["se-mul"](8, 0)
    with pytest.raises(UsageError, match="did you mean 'cbam'"):
        ATTENTIONS["cban"]
