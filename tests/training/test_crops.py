"""Crops are parts of their pairs, aligned, and drawn by key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deploy_robust.errors import InputError, UsageError
from deploy_robust.training.crops import CropSampler, PairPool


def _occurs(crop: np.ndarray, image: np.ndarray) -> bool:
    views = np.lib.stride_tricks.sliding_window_view(image, crop.shape)[:, :, 0]
    return bool((views == crop).all(axis=(2, 3, 4)).any())


def test_both_images_of_a_row_are_the_same_window_of_one_pair(stripes: Any) -> None:
    pool = PairPool.of([stripes(3)])
    sampler = CropSampler(pool, size=16, rows=6, seed=1)
    batch = sampler.batch(5)
    assert batch.rainy.shape == batch.clean.shape == (6, 3, 16, 16)
    assert batch.rainy.dtype == torch.float32
    joined = torch.cat([batch.rainy, batch.clean], 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    images = [np.concatenate([pair.rainy, pool.clean(pair)], 2) for pair in pool.pairs]
    for crop in joined:
        assert any(_occurs(crop, image) or _occurs(crop[:, ::-1], image) for image in images)


def test_a_row_depends_on_seed_step_and_row_alone(stripes: Any) -> None:
    pool = PairPool.of([stripes(3)])
    whole = CropSampler(pool, size=16, rows=6, seed=1)
    part = CropSampler(pool, size=16, rows=2, seed=1)
    part.batch(0)
    assert torch.equal(whole.batch(9).rainy[:2], part.batch(9).rainy)
    assert not torch.equal(whole.batch(9).rainy, whole.batch(10).rainy)
    assert not torch.equal(CropSampler(pool, size=16, rows=6, seed=2).batch(9).rainy, whole.batch(9).rainy)


def test_the_digest_is_of_the_pixels(stripes: Any) -> None:
    pairs = PairPool.of([stripes(2)]).pairs
    changed = pairs[1].rainy.copy()
    changed[0, 0, 0] ^= 1
    assert PairPool(pairs).digest == PairPool.of([stripes(2)]).digest
    assert PairPool([pairs[0], replace(pairs[1], rainy=changed)]).digest != PairPool(pairs).digest


def test_what_cannot_be_trained_on_is_refused_at_the_door(stripes: Any) -> None:
    pool = PairPool.of([stripes(2)])
    with pytest.raises(UsageError, match="smaller than the crop"):
        CropSampler(pool, size=41, rows=1, seed=0)
    with pytest.raises(InputError, match="no ground truth"):
        PairPool([replace(pool.pairs[0], clean=None)])
    with pytest.raises(InputError, match="no pairs"):
        PairPool([])
