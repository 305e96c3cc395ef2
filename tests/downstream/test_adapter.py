"""Descriptions of downstream networks: what they say, and what is told of wrong ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from deploy_robust.downstream.adapter import read_adapter
from deploy_robust.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
model = "nets/street.onnx"
task = "segmentation"
classes = ["road", "rider", "sky"]

[input]
size = [64, 96]
range = [0, 255]
mean = [0.5, 0.4, 0.3]
layout = "NHWC"

[output]
form = "scores"
names = { answer = "logits" }

[map]
rider = "person"
"""


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    import tomllib

    (tmp_path / "net.toml").write_text(GOOD)
    (tmp_path / "net.json").write_text(json.dumps(tomllib.loads(GOOD)))
    adapter, model = read_adapter(tmp_path / "net.toml")
    assert read_adapter(tmp_path / "net.json") == (adapter, model)
    assert model == tmp_path / "nets" / "street.onnx"
    assert adapter.named == ("road", "person", "sky")
    assert adapter.size == (64, 96)
    assert adapter.io.range == (0.0, 255.0)
    assert adapter.io.mean == (0.5, 0.4, 0.3)
    assert adapter.io.layout == "NHWC"
    assert json.loads(json.dumps(adapter.to_dict()))["reading"]["form"] == "scores"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('task = "segmentation"', 'task = "segmentatoin"', "task 'segmentatoin': did you mean 'segmentation'"),
        ('form = "scores"', 'form = "rows"', "a segmentation is not read as 'rows'"),
        ('form = "scores"', 'form = "logits"', "form 'logits'"),
        ('form = "scores"', 'form = "scores"\nthreshold = 2', "threshold lies in"),
        ("[input]", "[inputs]", "unknown key 'inputs': did you mean 'input'"),
        ("size =", "sizes =", "unknown key 'sizes': did you mean 'size'"),
        ("range = [0, 255]", "range = [1, 0]", "a range must rise"),
        ('layout = "NHWC"', 'layout = "HWC"', "input.layout 'HWC': did you mean 'NHWC'?"),
        ("rider = ", "ryder = ", "no class is named 'ryder': did you mean 'rider'"),
        ('classes = ["road", "rider", "sky"]', 'classes = ["road", "road", "rider"]', "different names"),
        ('task = "segmentation"\n', "", "the key 'task' is missing"),
        ('model = "nets/street.onnx"\n', "", "the key 'model' is missing"),
        ("[output]", "[output", "is not TOML"),
    ],
)
def test_wrong_descriptions_are_told_what_is_right(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    path = tmp_path / "net.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as told:
        read_adapter(path)
    assert complaint in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the description .*none\.toml: cannot be read"):
        read_adapter(tmp_path / "none.toml")
