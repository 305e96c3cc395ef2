"""How attacks run their source: by flags, in the plan, in the report, and again in a replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.gate.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def test_a_check_on_a_draft_says_so_and_replays(cli: Any, engines: Path, tmp_path: Path) -> None:
    flags = ("--craft-dtype", "bf16", "--checkpointing")
    ended = cli.check(engines / "prenet-small-fp32.onnx", *flags, "--out", "run", cwd=tmp_path)
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
        (("--source", "prenet-small-fp32.onnx", "--craft-dtype", "bf16"), "its own arithmetic"),
        (("--source", "mprnet-r-seadd-mb-small", "--tile", "32"), "pools globally"),
    ],
)
def test_what_cannot_be_done_is_refused(cli: Any, engines: Path, tmp_path: Path, flags: Any, words: str) -> None:
    named = () if "--source" in flags else ("--source", "prenet-small")
    flags = tuple(str(engines / each) if each.endswith(".onnx") else each for each in flags)
    ended = cli.run("attack", *named, *flags, "--size", "32", "--limit", "1", "--out", "set", cwd=tmp_path)
    assert words in ended.complaint()
