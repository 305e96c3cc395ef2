"""Agreement against SciPy and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deploy_robust.statistics.agreement import joint, kendall_tau

NUMBERS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=40)


@given(NUMBERS)
def test_tau_is_scipys_with_and_without_ties(pairs: list[tuple[int, int]]) -> None:
    a, b = (list(map(float, column)) for column in zip(*pairs, strict=True))
    ours = kendall_tau(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours is None
        return
    assert ours is not None
    assert math.isclose(ours, stats.kendalltau(a, b, variant="b").statistic, abs_tol=1e-12)


def test_tau_of_equal_and_reversed_orders() -> None:
    drops = list(np.random.default_rng(0).normal(size=20))
    assert kendall_tau(drops, drops) == pytest.approx(1)
    assert kendall_tau(drops, [-d for d in drops]) == pytest.approx(-1)
    assert kendall_tau([1.0], [2.0]) is None
    with pytest.raises(ValueError, match="the same images"):
        kendall_tau([1.0], [1.0, 2.0])


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_joint_counts_every_image_once(pairs: list[tuple[bool, bool]]) -> None:
    found = joint([a for a, _ in pairs], [b for _, b in pairs])
    assert (found.both, found.only_a, found.only_b, found.neither) == tuple(
        pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))
    )
    either = len(pairs) - found.neither
    assert found.shared == (found.both / either if either else None)
