"""Downstream networks by what a user types: what is opened, and what is told of what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy_robust.app.downstream import open_downstream
from deploy_robust.data.photographs import PhotoSource
from deploy_robust.data.scenes import SceneSource
from deploy_robust.errors import DeployRobustError

if TYPE_CHECKING:
    from pathlib import Path


def test_shipped_networks_are_opened_by_name() -> None:
    found = open_downstream(("scene-segmenter", "scene-detector"), SceneSource(1, size=(32, 32)), "cpu", 1)
    assert list(found.facts) == ["segmentation", "detection"]
    assert found.facts["detection"]["adapter"]["classes"] == ("person",)
    assert len(found.facts["segmentation"]["sha256"]) == 64


def test_what_cannot_be_opened_is_told_why(tmp_path: Path) -> None:
    scenes, photos = SceneSource(1, size=(32, 32)), PhotoSource(1, size=(32, 32))
    (tmp_path / "net.onnx").write_bytes(b"graph")
    (tmp_path / "lost.toml").write_text(
        'model = "lost.onnx"\ntask = "detection"\nclasses = ["person"]\n[output]\nform = "rows"\n'
    )
    for what, source, complaint in (
        (("scene-segmentor",), scenes, "neither a file nor a shipped network: did you mean 'scene-segmenter'"),
        (("scene-segmenter",), photos, "--downstream needs labelled images, and photos has none"),
        (("scene-segmenter", "scene-segmenter"), scenes, "two downstream networks have the same task"),
        ((str(tmp_path / "net.onnx"),), scenes, "has no description beside it: write net.toml"),
        ((str(tmp_path / "lost.toml"),), scenes, "names the model"),
    ):
        with pytest.raises(DeployRobustError) as told:
            open_downstream(what, source, "cpu", 1)
        assert complaint in str(told.value)
        assert "\n" not in str(told.value)
