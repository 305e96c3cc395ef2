"""ONNX's own node tests on the literal engine: each is right, or refused by name when the graph is opened."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import onnx_node_tests

REFUSED = Path(__file__).with_name("onnx_node_tests_refused.txt")

# With align_corners and a scale that gives no whole size, ONNX's reference spreads the corners over the size before
# it is cut to a whole number. We and ONNX Runtime spread them over the pixels that there are.
DIFFERENT = {"resize_downsample_scales_linear_align_corners", "resize_downsample_scales_cubic_align_corners"}


@functools.cache
def outcomes() -> dict[str, tuple[str, str]]:
    return {name: onnx_node_tests.outcome(test) for name, test in onnx_node_tests.node_tests().items()}


def test_every_node_test_is_right_or_refused_when_the_graph_is_opened():
    bad = {name: found for name, found in outcomes().items() if found[0] not in ("right", "refused")}
    assert set(bad) == DIFFERENT, {name: found for name, found in bad.items() if name not in DIFFERENT}


def test_exactly_the_listed_node_tests_are_refused():
    # A test that is newer than the list must be right; one that is right must leave the list.
    listed = {line for line in REFUSED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    refused = {name for name, (how, _) in outcomes().items() if how == "refused"}
    assert refused == listed & set(outcomes())


def test_a_refusal_names_the_node_or_what_the_graph_is():
    named = re.compile(r"\w+ node '|opset \d+|\d+ inputs|holds \w+ values|is no tensor|types cannot be inferred")
    unnamed = [why for how, why in outcomes().values() if how == "refused" and not named.search(why)]
    assert not unnamed


@pytest.mark.parametrize("name", sorted(DIFFERENT))
def test_where_we_differ_from_onnxs_reference_onnx_runtime_agrees_with_us(name):
    test = onnx_node_tests.node_tests()[name]
    session = onnxruntime.InferenceSession(test.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, test.feeds)
    np.testing.assert_allclose(onnx_node_tests.answers(test)[0].numpy(), theirs, rtol=1e-6)
    assert not np.allclose(theirs, test.right[0])
