"""``check --downstream``: the machine's view in table, report and policy; judged again, replayed, gone on with."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from deploy_robust.report.json_report import schema

if TYPE_CHECKING:
    from pathlib import Path

LINES = """
[[requirement]]
name = "classes"
quantity = "attacked-miou"
statistic = "dataset"
levels = [2]
at_least = {miou}

[[requirement]]
name = "persons"
quantity = "ap50-drop"
statistic = "dataset"
levels = [2]
at_most = 1.0
gates = false
"""

DESCRIPTION = """\
model = "everything-is-road.onnx"
task = "segmentation"
classes = ["street", "heaven"]

[output]
form = "labels"

[map]
street = "road"
heaven = "sky"
"""


def policy(cli: Any, folder: Path, name: str, miou: float) -> str:
    (folder / name).write_text(cli.QUICK.replace('name = "quick"', f'name = "{name}"') + LINES.format(miou=miou))
    return name


@pytest.fixture(scope="module")
def checked(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """A check of the identity with both shipped networks, stopped once and gone on with."""
    folder = tmp_path_factory.mktemp("downstream")
    engine = cli.identity(folder / "net.onnx")
    arguments = [
        *("--policy", policy(cli, folder, "low.toml", 0.01), "--size", "64", "--out", "run"),
        *("--downstream", "scene-segmenter", "--downstream", "scene-detector"),
    ]
    stopped = cli.check(engine, *arguments, "--max-minutes", "0", cwd=folder)
    assert "0 of" in stopped.out
    ended = cli.check(engine, *arguments, cwd=folder)
    return folder, ended, json.loads((folder / "run" / "report.json").read_text())


def test_the_report_holds_what_the_networks_saw(checked: Any) -> None:
    folder, ended, report = checked
    jsonschema.validate(report, schema())
    seen = report["downstream"]
    assert seen["networks"] == {"segmentation": "scene-segmenter", "detection": "scene-detector"}
    rows = {(row["view"], row["level"]): row for row in seen["rows"]}
    assert list(rows)[:3] == [("ground truth", 0), ("rain", 0), ("clean output", 0)]
    assert {view for view, level in rows if level == 2} == {"pgd-lmse", "uniform"}
    # The identity gives the rain: both views are one, and the network sees more in the ground truth.
    assert rows["rain", 0]["figures"] == rows["clean output", 0]["figures"]
    assert rows["ground truth", 0]["figures"]["miou"]["value"] > rows["rain", 0]["figures"]["miou"]["value"]
    outcomes = {row["requirement"]: row for row in report["outcomes"]}
    worst = min(rows[attack, 2]["figures"]["miou"]["value"] for attack in ("pgd-lmse", "uniform"))
    assert outcomes["classes"]["value"] <= worst + 1e-9  # every image at its own worst
    assert outcomes["classes"]["statistic"] == "dataset"
    assert report["provenance"]["downstream"]["segmentation"]["classes"][0] == "road"
    assert "seen by scene-segmenter and scene-detector" in ended.out
    assert "ground truth" in (folder / "run" / "summary.md").read_text()
    page = (folder / "run" / "report.html").read_text()
    assert "What other networks see" in page
    assert "Right classes" in page


def test_it_is_judged_again_without_networks(cli: Any, checked: Any) -> None:
    folder, _, _ = checked
    high = policy(cli, folder, "high.toml", 0.99)
    ended = cli.run("judge", "run", "--policy", high, "--out", "again", cwd=folder)
    assert ended.code == 1, ended.err
    report = json.loads((folder / "again" / "report.json").read_text())
    (line,) = [row for row in report["outcomes"] if row["requirement"] == "classes"]
    assert line["status"] == "FAIL"


def test_a_case_is_replayed_with_what_was_seen(cli: Any, checked: Any) -> None:
    folder, _, _ = checked
    ended = cli.run("replay", "run", "scene-test-000000", "pgd-lmse", "2", "--json", cwd=folder)
    assert ended.code == 0, (ended.out, ended.err)
    figures = {
        (each["role"], each["name"]): each for each in json.loads(ended.out)["figures"] if each["delivery"] == "8bit"
    }
    assert figures["engine", "miou"]["same"]
    assert figures["engine", "miou"]["stored"] == figures["engine", "miou"]["now"]


def test_a_pruned_run_is_judged_without_its_pictures(cli: Any, checked: Any, tmp_path: Path) -> None:
    import shutil

    folder, _, _ = checked
    shutil.copytree(folder, tmp_path / "copy")
    ended = cli.run("runs", "prune", "run", "--keep", "0", cwd=tmp_path / "copy")
    assert ended.code == 0, ended.err
    ended = cli.run("judge", "run", "--policy", "low.toml", cwd=tmp_path / "copy")
    assert ended.code in (0, 3), ended.err
    page = (tmp_path / "copy" / "run" / "report.html").read_text()
    assert "What other networks see" in page
    assert "Right classes" not in page


def test_a_network_of_ones_own_is_read_by_its_description(cli: Any, tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper

    (tmp_path / "everything-is-road.toml").write_text(DESCRIPTION)
    cli.graph(
        tmp_path / "everything-is-road.onnx",
        [
            helper.make_node("Conv", ["x", "k"], ["s"]),
            helper.make_node("ArgMax", ["s"], ["y"], axis=1, keepdims=0),
        ],
        outputs=[cli.value("y", ("n", "h", "w"), TensorProto.INT64)],
        k=np.array([1, 1, 1, 0, 0, 0], np.float32).reshape(2, 3, 1, 1),
    )
    engine = cli.identity(tmp_path / "net.onnx")
    ended = cli.check(engine, "--downstream", "everything-is-road.onnx", "--out", "run", cwd=tmp_path)
    assert ended.code in (0, 1, 3), ended.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    rows = {row["view"]: row for row in report["downstream"]["rows"] if not row["level"]}
    classes = rows["ground truth"]["classes"]
    # Whatever it sees is road: right on the road, wrong on the sky; what it has no name for is not counted.
    assert 0.3 < classes["road"] < 1
    assert classes["sky"] == 0
    assert all(value is None for name, value in classes.items() if name not in ("road", "sky"))


def test_what_cannot_be_seen_is_said_in_one_line(cli: Any, tmp_path: Path) -> None:
    engine = cli.identity(tmp_path / "net.onnx")

    def complaint(*arguments: str) -> str:
        return cli.check(engine, *arguments, "--out", "none", cwd=tmp_path).complaint()

    assert "--downstream needs labelled images, and photos has none" in complaint(
        "--downstream", "scene-segmenter", "--data", "photos"
    )
    assert "asks for classes, and no segmentation is measured: name a network for it with --downstream" in complaint(
        "--policy", policy(cli, tmp_path, "low.toml", 0.01)
    )


def test_runs_without_downstream_networks_are_as_they_were(cli: Any, tmp_path: Path) -> None:
    ended = cli.check(cli.identity(tmp_path / "net.onnx"), "--out", "run", cwd=tmp_path)
    assert ended.code in (0, 1, 3), ended.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["downstream"] is None
    assert "downstream" not in report["provenance"]
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as run:
        assert not [row for (row,) in run.execute("SELECT metrics FROM measurement") if "evidence" in row]
