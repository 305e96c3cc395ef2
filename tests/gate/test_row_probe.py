"""The same image in every row of a batch: what the probe says of engines that heed the row, and of others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import Capabilities
from deploy_robust.gate.row_probe import (
    BATCH_APART,
    BATCH_DB,
    ROWS_APART,
    attacked_neighbours,
    differences,
    row_answers,
)
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable


class Differentiable:
    """A function as an engine with gradients."""

    capabilities = Capabilities("test", "function", differentiable=True)

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.function = function

    def run(self, batch: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        return self.function(batch)

    def close(self) -> None:
        pass


def image() -> torch.Tensor:
    return torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def probe(restore: object) -> dict[str, float]:
    assert callable(restore)
    return differences(row_answers(restore, image()), restore(image()))


def test_an_engine_that_heeds_no_row_answers_the_same_everywhere() -> None:
    assert probe(lambda x: 0.5 * x + 0.1) == {ROWS_APART: 0.0, BATCH_APART: 0.0, BATCH_DB: math.inf}


def test_an_offset_of_one_row_is_its_size() -> None:
    def restore(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[2:3] += 0.25
        return y

    found = probe(restore)
    assert math.isclose(found[ROWS_APART], 0.25, rel_tol=1e-6)
    assert math.isclose(found[BATCH_APART], 0.25, rel_tol=1e-6)
    assert math.isclose(found[BATCH_DB], -20 * math.log10(0.25), rel_tol=1e-6)


def test_what_leaks_from_other_rows_shows() -> None:
    """Normalising over the batch is the classic: alike in every row, and another answer than alone."""
    found = probe(lambda x: x - x.mean(dim=(0, 2, 3), keepdim=True) + 0.01 * x.flip(0))
    assert found[BATCH_APART] > 1e-3


def test_rows_that_are_exchanged_show() -> None:
    assert probe(lambda x: x.roll(1, 0))[BATCH_APART] > 0.1


@pytest.mark.parametrize(
    "switch",
    [
        lambda x: len(x) > 1,
        lambda x: len(x) >= 3,
        lambda x: len(x) % 2 == 0,
        lambda x: len(x) > 4,
        lambda x: bool((x[0] == x[-1]).all()) and len(x) > 1,
        lambda x: bool((x[-1] == 0).all()),
        lambda x: bool((x[-1] == 1).all()),
    ],
)
def test_a_switch_on_the_batch_shows(switch: object) -> None:
    assert callable(switch)
    assert probe(lambda x: x * (0.9 if switch(x) else 1.0))[BATCH_APART] > 0.01


def test_norms_over_the_batch_show_though_each_image_is_normed_alike() -> None:
    """Mean and variance over all rows, as a norm layer exported in training mode takes them."""
    found = probe(lambda x: (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True).sqrt())
    assert found[BATCH_DB] < 30


def test_neighbours_are_moved_until_the_untouched_row_moves() -> None:
    """The answer leaks what the last row has in common with a pattern, which no neighbour has much of by chance."""
    pattern = torch.randint(0, 2, (1, 3, 32, 40), generator=torch.Generator().manual_seed(2)) * 2.0 - 1

    def leak(x: torch.Tensor) -> torch.Tensor:
        return x + (x[-1:] * pattern).mean().square() * (len(x) > 1)

    x = image()
    twin = Restorer(Differentiable(leak), IODescription())
    moved = attacked_neighbours(twin, x, 4)
    assert torch.equal(moved[:1], x)
    assert torch.allclose(moved[1:] * 255, (moved[1:] * 255).round(), atol=1e-4)
    fixed = differences(row_answers(leak, x), leak(x))[BATCH_APART]
    found = differences(row_answers(leak, x, twin=twin), leak(x))[BATCH_APART]
    assert found > 0.2
    assert found > 5 * fixed


def test_neighbours_of_an_engine_that_heeds_no_row_stay_where_they_are() -> None:
    x = image()
    moved = attacked_neighbours(Restorer(Differentiable(lambda x: x * 0.5), IODescription()), x, 3)
    assert torch.equal(moved[1:], ((1 - x).expand(2, -1, -1, -1) * 255).round() / 255)


def test_a_fixed_batch_is_probed_at_its_size() -> None:
    seen = []

    def restore(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x + 0.1 * x[:1].mean()

    assert differences(row_answers(restore, image(), batch=3), restore(image().expand(3, -1, -1, -1))[:1])[BATCH_APART]
    assert set(seen) == {3}
