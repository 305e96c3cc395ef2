"""A check knows the graph that ships: as a reference, as the source of an attack of its own, and as a last resort."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
schema = 1
name = "twin"
minimum_scenes = 2

[threat]
levels = [1]

[attacks.pgd-lmse]
iterations = 3
[attacks.uniform]

[parity]
minimum_pairs = 2
fp32 = { fidelity = 90, conversion = 90 }
int8 = { fidelity = 25, conversion = 30 }

[[requirement]]
name = "do-no-harm"
quantity = "attacked-gain"
levels = [1]
at_least = -100
"""


def checked(cli: Any, engine: Path, folder: Path, *more: str, policy: str = POLICY) -> tuple[int, dict[str, Any]]:
    (folder / "twin.toml").write_text(policy)
    ended = cli.check(engine, "--policy", "twin.toml", "--out", "run", *more, cwd=folder)
    assert ended.code in (0, 1, 3), ended.err
    return ended.code, json.loads((folder / "run" / "report.json").read_text())


def parities(report: dict[str, Any]) -> dict[str, str]:
    return {row["quantity"]: row["status"] for row in report["outcomes"] if row["requirement"] == "parity"}


def attacked(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(curve["role"], curve["attack"]) for curve in report["curves"]}


def test_an_int8_engine_is_held_to_its_graph_and_attacked_through_it(cli: Any, engines: Path, tmp_path: Path) -> None:
    code, report = checked(cli, engines / "prenet-small-int8.onnx", tmp_path)
    assert parities(report) == {"fidelity": "PASS", "conversion": "PASS"}
    assert {("engine", "pgd-lmse-adaptive"), ("engine", "pgd-lmse"), ("literal", "pgd-lmse")} <= attacked(report)
    assert code == 0
    again = cli.run("replay", "run", report["cases"][0]["case"]["pair"], "pgd-lmse-adaptive", "1", cwd=tmp_path)
    assert again.code == 0, (again.out, again.err)
    judged = cli.run("judge", "run", "--policy", "twin.toml", cwd=tmp_path)
    assert judged.code == 0, (judged.out, judged.err)


def test_an_fp32_engine_is_held_to_its_graph_and_not_attacked_twice(cli: Any, engines: Path, tmp_path: Path) -> None:
    _, report = checked(cli, engines / "prenet-small-fp32.onnx", tmp_path)
    assert parities(report) == {"fidelity": "PASS", "conversion": "PASS"}
    assert {role for role, _ in attacked(report)} == {"engine", "source"}
    assert not any(attack.endswith("adaptive") for _, attack in attacked(report))
    assert any("no adaptive attack" in note for note in report["notes"])


def test_a_graph_without_a_source_is_attacked_through_itself(cli: Any, engines: Path, tmp_path: Path) -> None:
    shutil.copy(engines / "prenet-small-int8.onnx", tmp_path / "foreign.onnx")
    code, report = checked(cli, tmp_path / "foreign.onnx", tmp_path)
    assert parities(report) == {"fidelity": "PASS"}
    assert report["provenance"]["source"]["kind"] == "literal"
    assert report["caps"] == []
    assert code == 0
    half = POLICY.replace("fidelity = 25, ", "")
    (tmp_path / "other").mkdir()
    code, report = checked(cli, tmp_path / "foreign.onnx", tmp_path / "other", policy=half)
    assert code == 3
    assert any("bounds no parity figure" in cap for cap in report["caps"])


def test_a_graph_serves_as_the_source_of_another_engine(cli: Any, engines: Path, tmp_path: Path) -> None:
    source = str(engines / "prenet-small-fp32.onnx")
    _, report = checked(cli, engines / "prenet-small-int8.onnx", tmp_path, "--source", source)
    assert report["provenance"]["source"]["name"] == "literal reading of prenet-small-fp32.onnx"
    assert parities(report) == {"fidelity": "PASS", "conversion": "PASS"}
