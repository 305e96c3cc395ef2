"""How attacks run their source: by flags, in the plan, in the report, and again in a replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.app.crafting import Crafting
from deploy_robust.app.networks import EngineRequest, SourceRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.app.reopening import from_note, to_note
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import EngineOptions
from deploy_robust.gate.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_set_says_how_it_was_crafted(cli: Any, tmp_path: Path) -> None:
    flags = ("--source", "prenet-small", "--craft-dtype", "bf16", "--checkpointing")
    asked = ("--attack", "pgd-lmse", "--epsilon", "2/255", "--size", "32", "--limit", "1", "--threads", "1")
    ended = cli.run("attack", *flags, *asked, "--out", "set", cwd=tmp_path)
    assert ended.code == 0, ended.err
    index = json.loads((tmp_path / "set" / "set.json").read_text())
    assert index["source"]["crafting"] == {"dtype": "bf16", "checkpointing": True}
    with SqliteStore.read(tmp_path / "set.run") as store:
        assert store.plan["source"]["crafting"] == index["source"]["crafting"]
    said = " ".join(ended.out.split())
    assert "bfloat16 copy of the source" in said
    assert "recomputed the source's activations" in said


def test_a_replay_crafts_as_the_run_did(tmp_path: Path) -> None:
    source = SourceRequest("prenet-small", crafting=Crafting("bf16", checkpointing=True, tile=64))
    engine = EngineRequest(tmp_path / "engine.onnx", EngineOptions())
    note = json.loads(json.dumps(to_note(engine, source, PairsRequest(), 300.0, tmp_path)))
    plan = {"engine": {"io": IODescription().to_dict()}}
    assert from_note(note, plan, tmp_path)[1] == source
    del note["source"]["crafting"]  # runs of before
    assert from_note(note, plan, tmp_path)[1].crafting == Crafting()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tile", "64", "--cuda-graph"), "goes without --checkpointing and --tile"),
        (("--cuda-graph",), "holds kernels of a GPU"),
        (("--source", "identity.onnx", "--craft-dtype", "bf16"), "its own arithmetic"),
        (("--source", "mprnet-r-seadd-mb-small", "--tile", "32"), "pools globally"),
    ],
)
def test_what_cannot_be_done_is_refused(cli: Any, tmp_path: Path, flags: Any, words: str) -> None:
    cli.identity(tmp_path / "identity.onnx")
    named = () if "--source" in flags else ("--source", "prenet-small")
    ended = cli.run("attack", *named, *flags, "--size", "32", "--limit", "1", "--out", "set", cwd=tmp_path)
    assert words in ended.complaint()


def test_every_objective_runs_in_every_mask(cli: Any, tmp_path: Path) -> None:
    asked = ("--objective", "lmse", "--objective", "features", "--mask", "everywhere", "--mask", "not-rain")
    scene = ("--size", "32", "--limit", "1", "--threads", "1", "--epsilon", "2/255", "--epsilon", "4/255")
    ended = cli.run("attack", "--source", "prenet-small", *asked, *scene, "--out", "set", cwd=tmp_path)
    assert ended.code == 0, ended.err
    index = json.loads((tmp_path / "set" / "set.json").read_text())
    assert set(index["attacks"]) == {"pgd-lmse", "pgd-features", "pgd-lmse-not-rain", "pgd-features-not-rain"}
    assert index["attacks"]["pgd-features-not-rain"]["settings"]["net"] == "scene-segmenter"
    assert {case["level"] for case in index["cases"]} == {2, 4}
    assert all(case["in_ball"] for case in index["cases"])
    masked = [case["share"] < 1 for case in index["cases"] if case["attack"].endswith("not-rain")]
    assert len(masked) == 4
    assert all(masked)
    said = cli.run("attack", "--source", "prenet-small", "--objective", "lpisp", "--out", "other", cwd=tmp_path)
    assert "did you mean 'lpips'" in said.complaint()
