"""How attacks run their source: by flags, in the plan, in the report, and again in a replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.gate.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_check_on_a_draft_says_so_and_replays(cli: Any, tmp_path: Path) -> None:
    flags = ("--source", "prenet-small", "--craft-dtype", "bf16", "--checkpointing")
    ended = cli.check(cli.identity(tmp_path / "identity.onnx"), *flags, "--out", "run", cwd=tmp_path)
    assert ended.code in (0, 1, 3), ended.err
    with SqliteStore.read(tmp_path / "run") as store:
        plan = store.plan
    assert plan["source"]["crafting"] == {"dtype": "bf16", "checkpointing": True}
    notes = " ".join(json.loads((tmp_path / "run" / "report.json").read_text())["provenance"]["notes"])
    assert "bfloat16 copy of the source" in notes
    assert "recomputed the source's activations" in notes
    again = cli.run("replay", "run", "scene-test-000001", "pgd-lmse", "2", cwd=tmp_path)
    assert again.code == 0, (again.out, again.err)


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
