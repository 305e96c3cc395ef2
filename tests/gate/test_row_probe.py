"""The same image in every row of a batch: what the probe says of engines that heed the row, and of others."""

from __future__ import annotations

import math

import torch

from deploy_robust.gate.row_probe import BATCH_APART, BATCH_DB, ROWS_APART, differences, row_answers


def image() -> torch.Tensor:
    return torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(1))


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
