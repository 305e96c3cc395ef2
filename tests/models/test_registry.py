"""The registry: names, presets, overrides, and the outer contract of every network in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import Capabilities
from deploy_robust.errors import UsageError
from deploy_robust.models.registry import MODELS, ModelRegistry
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer


class _ModelEngine:
    """The smallest engine: a module as it is."""

    capabilities = Capabilities(runtime="torch", provider="eager", differentiable=True, arithmetic="literal")

    def __init__(self, model: Derainer) -> None:
        self.model = model

    def run(self, batch: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        return self.model(batch)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", MODELS.names())
@settings(max_examples=8, deadline=None, derandomize=True)
@given(height=st.integers(32, 75), width=st.integers(32, 75), batch=st.integers(1, 2))
def test_any_size_from_32_pixels_up_comes_back_in_its_own_size(name: str, height: int, width: int, batch: int) -> None:
    torch.manual_seed(0)
    model = MODELS.create(name, "tiny").eval()
    restorer = Restorer(_ModelEngine(model), IODescription(size=model.size_rule))
    x = torch.rand(batch, 3, height, width, requires_grad=True)
    y = restorer(x)
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()
    (gradient,) = torch.autograd.grad(y.square().mean(), x)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", MODELS.names())
def test_rows_of_a_batch_do_not_influence_each_other(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS.create(name, "tiny").eval()
    x = torch.rand(3, 3, 48, 48)
    with torch.inference_mode():
        together, alone = model(x), torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS.names())
def test_the_image_is_the_last_stage_of_training(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS.create(name, "tiny").eval()
    x = torch.rand(1, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(model(x), model.training_outputs(x).final)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_preset_builds_and_states_what_it_is(name: str) -> None:
    assert {"tiny", "small", "benchmark"} <= set(MODELS.presets(name))
    for preset in MODELS.presets(name):
        with torch.device("meta"):
            model = MODELS.create(name, preset)
        assert model.identity.arguments == dict(MODELS.spec(name).presets[preset])
        assert model.parameter_count > 0


def test_overrides_replace_preset_arguments_and_are_remembered() -> None:
    model = MODELS.create("prenet", "tiny", width=6)
    assert model.identity.arguments == {"width": 6, "iterations": 2}
    assert model.parameter_count == 162 * 36 + 96 * 6 + 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("prent",), {}, "did you mean 'prenet'"),
        (("prenet", "smal"), {}, "did you mean 'small'"),
        (("prenet", "tiny"), {"widht": 8}, "did you mean 'width'"),
    ],
)
def test_unknown_names_are_usage_errors_with_the_nearest_match(
    arguments: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        MODELS.create(*arguments, **options)


def test_duplicates_raise_and_leave_the_registry_as_it_was() -> None:
    registry = MODELS.copy()
    with pytest.raises(ValueError, match="registered already"):
        registry.add(MODELS.spec("prenet"))
    assert registry.names() == MODELS.names()
    assert ModelRegistry().names() == []
