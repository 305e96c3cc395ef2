"""Engines that misbehave, on clean images or only under attack: FAIL, with the image, and the run goes on."""

from __future__ import annotations

import json
import sqlite3
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

UNDER_ATTACK = 200.5 / 255
"""Above the brightest pixel of an image, and below that of its attacked versions."""
BRIGHT = 230 / 255


def report_of(run: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((run / "report.json").read_text())
    return report


def of_the_engine(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Defects of the engine; its graph, read literally as the source of attacks, has the same ones."""
    return [row for row in report["defects"] if row["role"] == "engine"]


def judged(report: dict[str, Any]) -> dict[tuple[str, bool], set[str]]:
    """Kinds of the engine's defects by pair and by whether the image was attacked."""
    found: dict[tuple[str, bool], set[str]] = {}
    for row in of_the_engine(report):
        found.setdefault((row["case"]["pair"], row["case"]["attack"] != "clean"), set()).add(row["kind"])
    return found


def assert_fails_with_images(ended: Any, run: Path) -> dict[str, Any]:
    """The promises that hold for every defect; returns the report."""
    assert ended.code == 1, (ended.out, ended.err)
    assert "Traceback" not in ended.err
    assert "engine-defect" in ended.out
    report = report_of(run)
    assert report["status"] == "FAIL"
    (outcome,) = [row for row in report["outcomes"] if row["requirement"] == "engine-defect"]
    assert outcome["status"] == "FAIL"
    store = sqlite3.connect(run / "run.sqlite")
    for row in of_the_engine(report):
        (png,) = store.execute("SELECT png FROM image WHERE sha256 = ?", (row["image"],)).fetchone()
        image = np.asarray(Image.open(BytesIO(png)))
        assert image.shape == (32, 40, 3)
        if row["case"]["attack"] == "clean":
            assert image.max() == {"bright": 255, "middle": 200}[row["case"]["pair"]]
    store.close()
    cases = ET.parse(run / "junit.xml").iter("testcase")
    failed = [case.get("name") for case in cases if case.find("failure") is not None]
    assert any("engine-defect" in str(name) for name in failed)
    return report


def test_infinite_clean_outputs_and_nan_under_attack(cli: Any, brightness: Path, tmp_path: Path) -> None:
    poisons = [(BRIGHT, np.inf), (UNDER_ATTACK, np.nan)]
    ended = cli.check(cli.poisoned(tmp_path / "net.onnx", poisons), "--out", "run", data=brightness, cwd=tmp_path)
    report = assert_fails_with_images(ended, tmp_path / "run")
    found = judged(report)
    assert found[("bright", False)] == {"inf"}
    assert found[("middle", True)] == {"nan"}
    assert ("middle", False) not in found
    assert not any(pair == "dark" for pair, _ in found)
    assert {row["case"]["pair"] for row in report["cases"]} == {"dark"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "not finite" in page
    assert "data:image/" in page


def test_another_size_clean_and_under_attack(cli: Any, brightness: Path, tmp_path: Path) -> None:
    ended = cli.check(cli.shrinking(tmp_path / "net.onnx", UNDER_ATTACK), "--out", "run", data=brightness, cwd=tmp_path)
    report = assert_fails_with_images(ended, tmp_path / "run")
    found = judged(report)
    assert found[("bright", False)] == found[("middle", True)] == {"shape"}
    assert ("middle", False) not in found
    assert "(1, 3, 31, 40)" in report["defects"][0]["detail"]


def test_another_packages_engine_that_hangs_and_ends_its_process(
    cli: Any, package: dict[str, str], brightness: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text(json.dumps([[255, 255, "hang"], [201, 205, "abort"]]))
    ended = cli.check(
        tmp_path / "net.madeup", "--out", "run", "--timeout", "5", data=brightness, cwd=tmp_path, environment=package
    )
    report = assert_fails_with_images(ended, tmp_path / "run")
    assert report["provenance"]["engine"]["kind"] == "made-up"
    found = judged(report)
    assert found[("bright", False)] == {"timeout"}
    assert found[("middle", True)] == {"crash"}
    assert ("middle", False) not in found
    assert {row["case"]["pair"] for row in report["cases"]} == {"dark"}


def test_another_packages_engine_that_answers_with_integers_and_raises(
    cli: Any, package: dict[str, str], brightness: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text(json.dumps([[255, 255, "dtype"], [201, 205, "fault"]]))
    ended = cli.check(tmp_path / "net.madeup", "--out", "run", data=brightness, cwd=tmp_path, environment=package)
    report = assert_fails_with_images(ended, tmp_path / "run")
    found = judged(report)
    assert found[("bright", False)] == {"dtype"}
    assert found[("middle", True)] == {"crash"}
    assert any("out of imagination" in row["detail"] for row in report["defects"])


def test_another_packages_engine_that_does_not_load_is_no_verdict(
    cli: Any, package: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text('"fault"')
    complaint = cli.check(tmp_path / "net.madeup", cwd=tmp_path, environment=package).complaint()
    assert "made-up" in complaint
    assert "RuntimeError: cannot imagine" in complaint


def test_the_doctor_runs_another_packages_engine(cli: Any, package: dict[str, str], tmp_path: Path) -> None:
    ended = cli.run("doctor", "--json", cwd=tmp_path, environment=package)
    assert ended.code == 0
    engines = {row["name"]: row["works"] for row in json.loads(ended.out)["engines"]}
    assert engines["made-up"]
    assert engines["torch / cpu"]
