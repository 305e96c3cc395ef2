"""``compare`` as a process: engines side by side, one of them damaged, interrupted, built again, and mistyped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import FileRecord, Manifest
from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.store import SqliteStore
from deploy_robust.models.checkpoints import load_any, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
schema = 1
name = "side by side"
minimum_scenes = 2

[threat]
levels = [2, 8]

[attacks.pgd-lmse]
iterations = 2
[attacks.corners]

[parity]
minimum_pairs = 2
fp32 = { fidelity = 90, conversion = 30 }
int8 = { fidelity = 25, conversion = 30 }

[[requirement]]
name = "engine-defect"
quantity = "defects"
statistic = "max"
at_most = 0

[[requirement]]
name = "do-no-harm"
quantity = "attacked-gain"
levels = [8]
at_least = 0.0
"""
TINY = ("--size", "32", "--limit", "2", "--threads", "1", "--policy", "policy.toml")


@pytest.fixture
def folder(cli: Any, tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    cli.identity(tmp_path / "identity.onnx")
    cli.blur(tmp_path / "blur.onnx")
    return tmp_path


def report(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "compare.json").read_text())
    return loaded


def dump(run: Path) -> bytes:
    with SqliteStore.read(run) as store:
        return canonical_dump(store)


def claim_to_be(network: str, artefact: Path) -> None:
    """A manifest that says the artefact was made from shipped weights, which then lie beside it."""
    model, info = load_any(network)
    weights = artefact.parent / f"{network}.safetensors"
    save_checkpoint(weights, model, info.record)
    manifest = Manifest(FileRecord.of(artefact), "fp32", "fp32", {}, IODescription(), source=FileRecord.of(weights))
    manifest.write(artefact.parent)


def test_two_engines_side_by_side_interrupted_and_repeated(cli: Any, folder: Path) -> None:
    engines = ("--engine", "identity.onnx", "--engine", "blur.onnx,name=soft")
    first = cli.run("compare", *engines, *TINY, "--out", "run", "--max-minutes", "0", cwd=folder)
    assert first.code == 3, first.err
    assert "not everything was measured" in first.out
    ended = cli.run("compare", *engines, *TINY, "--out", "run", cwd=folder)
    assert ended.code == 0, ended.err
    assert "worst" in ended.out
    found = report(folder / "run")
    assert found["complete"]
    assert [e["name"] for e in found["engines"]] == ["identity", "soft"]
    assert [e["parity"] for e in found["engines"]] == ["holds", "holds"]
    assert [(e["repeat_max_abs"], e["rows_max_abs"], e["probed"]) for e in found["engines"]] == [(0.0, 0.0, 2)] * 2
    # Without manifests each is attacked through its own graph, and noise looks at none.
    names = [column["name"] for column in found["columns"]]
    assert names == ["pgd-lmse on identity (literal)", "pgd-lmse on blur (literal)", "corners"]
    assert {cell["images"] for cell in found["cells"]} == {2}
    cells = {(c["engine"], c["column"], c["level"]): c for c in found["cells"]}
    own = cells["identity", "pgd-lmse on identity (literal)", 8.0]["gap"]
    assert abs(own["mean"]) < 1e-3, "an engine and the literal reading of its graph see the same images"
    assert cells["soft", "corners", 8.0]["gap"] is None
    assert (folder / "run" / "report.html").read_text().count('class="heat"') == 1 + 2 * 2 + 2

    again = cli.run("compare", *engines, *TINY, "--out", "again", "--quiet", cwd=folder)
    assert again.code == 0, again.err
    assert dump(folder / "run") == dump(folder / "again")
    assert report(folder / "run") == report(folder / "again")
    other = cli.run("compare", *engines, *TINY, "--seed", "1", "--out", "run", cwd=folder)
    assert "was made for another check" in other.complaint()
    assert "compares several engines" in cli.run("runs", "show", "run", cwd=folder).complaint()
    assert "identity, soft" in cli.run("runs", "list", ".", cwd=folder).out


def test_a_damaged_engine_looks_robust_and_is_void(cli: Any, folder: Path) -> None:
    """A blur that claims to be a network: no attack on that network moves it, and parity says why."""
    claim_to_be("prenet-small", folder / "blur.onnx")
    ended = cli.run(
        *("compare", "--engine", "blur.onnx", "--source", "own", *TINY, "--out", "run", "--max-gap", "40"), cwd=folder
    )
    assert ended.code == 1, (ended.out, ended.err)
    assert "void" in ended.out
    found = report(folder / "run")
    (engine,) = found["engines"]
    assert engine["parity"] == "broken"
    assert "conversion" in engine["void"]
    assert engine["conversion_db"] < 30
    (column,) = [c["name"] for c in found["columns"] if c["source"] is not None]
    cells = {(c["engine"], c["column"], c["level"]): c for c in found["cells"]}
    assert all(c["void"] for (name, _, _), c in cells.items() if name == "blur")
    source = cells["prenet-small (torch)", column, 8.0]
    drops = cells["blur", column, 8.0]["drop"], source["drop"]
    assert drops[0] < drops[1], "it looks more robust than the network that it claims to be"
    assert found["exceeded"][0]["engine"] == "blur"


def test_engines_that_end_the_process_take_no_other_with_them(cli: Any, folder: Path, package: dict[str, str]) -> None:
    (folder / "doomed.madeup").write_text(json.dumps([[0, 255, "abort"]]))
    ended = cli.run(
        *("compare", "--engine", "doomed.madeup", "--engine", "identity.onnx", *TINY, "--limit", "1", "--out", "run"),
        cwd=folder,
        environment=package,
    )
    assert ended.code == 0, ended.err
    found = report(folder / "run")
    doomed, whole = found["engines"]
    assert "no image" in doomed["void"]
    assert doomed["verdict"] == "FAIL"
    assert (whole["void"], whole["parity"]) == ("", "unproven")
    assert {cell["images"] for cell in found["cells"] if cell["engine"] == "identity"} == {1}


def test_a_file_without_a_recipe_is_opened_anew(cli: Any, folder: Path) -> None:
    ended = cli.run(*("compare", "--engine", "identity.onnx", "--rebuild", "3", *TINY, "--out", "run"), cwd=folder)
    assert ended.code == 0, ended.err
    (builds,) = report(folder / "run")["builds"]
    assert (builds["files"], builds["how"]) == (1, "the same file, opened anew")
    assert [figure["spread"] for figure in builds["figures"] if figure["spread"] is not None] == [0.0] * 3
    assert len(set(builds["verdicts"])) == 1
    assert len(builds["verdicts"]) == 3


@pytest.mark.slow
def test_an_int8_export_is_calibrated_anew_for_every_build(cli: Any, engines: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    arguments = (
        *("compare", "--engine", str(engines / "prenet-small-int8.onnx"), "--rebuild", "2", "--source", "own"),
        *(*TINY, "--out", "run"),
    )
    first = cli.run(*arguments, "--max-minutes", "0", cwd=tmp_path)
    assert first.code == 3, first.err
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "builds").rglob("*.onnx")}
    assert made
    ended = cli.run(*arguments, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert {path: path.stat().st_mtime_ns for path in made} == made, "an interrupted comparison keeps its builds"
    (builds,) = report(tmp_path / "run")["builds"]
    assert builds["files"] == 2
    assert "calibrated on scenes of its own" in builds["how"]
    clean = next(figure for figure in builds["figures"] if figure["name"] == "clean PSNR")
    assert 0 < clean["spread"] < 1


def test_one_file_on_two_runtimes(cli: Any, folder: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is an optional extra")
    ended = cli.run(
        *("compare", "--engine", "blur.onnx", "--engine", "blur.onnx,name=other,runtime=openvino,compute=f32"),
        *("--source", "literal", *TINY, "--out", "run"),
        cwd=folder,
    )
    assert ended.code == 0, ended.err
    found = report(folder / "run")
    here, there = found["engines"]
    assert here["sha256"] == there["sha256"]
    assert (here["runtime"].split()[0], there["runtime"].split()[0]) == ("onnxruntime", "openvino")
    assert (here["literal"], here["parity"]) == (there["literal"], there["parity"]) == ("blur (literal)", "holds")
    assert ("blur", "other") in [(cell["a"], cell["b"]) for cell in found["parity"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "identity.onnx", "--engine", "identity.onnx"), ["two engines", "name="]),
        (("--engine", "identity.onnx,runtim=openvino"), ["--engine identity.onnx,runtim=openvino", "runtim"]),
        (("--engine", "nowhere.onnx"), ["no engine", "nowhere.onnx"]),
        (("--engine", "identity.onnx", "--source", "nothing-like-it"), ["nothing-like-it"]),
        (("--engine", "identity.onnx", "--max-gap", "0"), ["max-gap"]),
        ((), ["--engine"]),
    ],
)
def test_what_was_typed_wrongly_is_said_in_one_line(
    cli: Any, folder: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    complaint = cli.run("compare", *arguments, *TINY, cwd=folder).complaint()
    assert all(word in complaint for word in words)
    assert not (folder / "runs" / "compare" / "run.sqlite").exists()
