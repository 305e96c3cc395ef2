"""A float16 graph that overflows under attack alone: ONNX Runtime's CPU provider hides it, the check tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
schema = 1
name = "half"
minimum_scenes = 2

[threat]
levels = [4]

[attacks.corners]

[parity]
minimum_pairs = 2
fp16 = { fidelity = 50 }

[[requirement]]
name = "engine-defect"
quantity = "defects"
statistic = "max"
at_most = 0
"""

GAIN = 65504 / 2.965
"""Grey 250 in three channels stays below 65504 when it is added up and multiplied so, grey 254 does not."""


def graph(path: Path) -> None:
    """Each channel answers with the mean of the three, by way of a sum that is far too large."""
    half = np.float16
    weights = {"up": np.full((3, 3, 1, 1), GAIN, half), "down": np.asarray(1 / (3 * GAIN), half)}
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["h", "up"], ["large"], name="sum"),
        helper.make_node("Mul", ["large", "down"], ["small"], name="back"),
        helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, "h", "w"]) for n in ("x", "y")]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    onnx.save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def test_a_check_says_that_attacks_push_float16_over_its_end(cli: Any, tmp_path: Path) -> None:
    graph(tmp_path / "half.onnx")
    for folder in ("rain", "norain"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.full((36, 40, 3), 250, np.uint8)).save(tmp_path / "pairs" / folder / f"{name}.png")
    (tmp_path / "half.toml").write_text(POLICY)
    ended = cli.run(
        "check", "--engine", "half.onnx", "--data", "pairs", "--policy", "half.toml", "--out", "run", cwd=tmp_path
    )
    assert ended.code in (0, 3), (ended.out, ended.err)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    (note,) = (note for note in report["notes"] if note.startswith("float16"))
    assert "on 0 of 2 clean images and 2 of 2 attacked images: first at node 'sum' (corners at 4/255)" in note
    assert note.split(":")[0] in " ".join((tmp_path / "run" / "summary.md").read_text().split())
    # What ONNX Runtime answered is finite: by itself it shows nothing.
    assert not [row for row in report["defects"] if row["role"] == "engine"]
