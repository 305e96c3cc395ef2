"""``attack``, and ``check`` on what it stored: by an engine here, and by outputs that another program recorded."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
schema = 1
name = "stored"
minimum_scenes = 2

[threat]
levels = [2, 4]

[attacks.pgd-lmse]
iterations = 2
[attacks.uniform]
[attacks.stripes]
queries = 10
[attacks.rainy]
algorithm = "fgsm"
objective = "input-close"
mask = "rain"

[parity]
minimum_pairs = 2
fp32 = { conversion = 90, conversion_max_abs = 1e-4 }
int8 = { conversion = 30, fidelity = 25 }

[[requirement]]
name = "engine-defect"
quantity = "defects"
statistic = "max"
at_most = 0

[[requirement]]
name = "keeps"
quantity = "drop"
statistic = "max"
levels = [2, 4]
at_most = 60

[[requirement]]
name = "transfer-gap"
quantity = "transfer-gap"
levels = [2]
at_least = -20
at_most = 20
"""

SCENES = ("--size", "32", "--limit", "2", "--threads", "1")
INT8 = "prenet-small-int8.onnx"
FP32 = "prenet-small-fp32.onnx"


@pytest.fixture(scope="module")
def bench(cli: Any, engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines, a policy, and a set crafted with the INT8 engine."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(engines, folder, dirs_exist_ok=True)
    (folder / "policy.toml").write_text(POLICY)
    ended = cli.run("attack", "--engine", INT8, "--policy", "policy.toml", *SCENES, "--out", "set", cwd=folder)
    assert ended.code == 0, ended.err
    assert "2 clean and 24 attacked images" in ended.out
    return folder


def measured(folder: Path) -> list[str]:
    """The canonical dump of everything that was delivered in 8 bits."""
    with SqliteStore.read(folder) as store:
        lines = canonical_dump(store).splitlines()
    return [line for line in lines if json.loads(line).get("delivery") != "float"]


def check(cli: Any, folder: Path, *arguments: str) -> Any:
    return cli.run("check", "--policy", "policy.toml", "--threads", "1", *arguments, cwd=folder)


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def record(engine: Path, stored: Path, out: Path, *, floats: bool) -> Path:
    """What a target would do: ONNX Runtime and Pillow, and nothing of ours."""
    session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
    out.mkdir()
    for path in sorted((stored / "inputs").glob("*.png")):
        with Image.open(path) as image:
            x = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
        if floats:
            np.save(out / f"{path.stem}.npy", y[0].transpose(1, 2, 0))
        else:
            Image.fromarray(np.rint(y[0].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)).save(out / path.name)
    return out


@pytest.fixture(scope="module")
def on_set(cli: Any, bench: Path) -> Path:
    """The INT8 engine, checked on the set."""
    ended = check(cli, bench, "--engine", INT8, "--adversarial", "set", "--out", "on-set")
    assert ended.code == 0, (ended.out, ended.err)
    assert "no attack was crafted here" in " ".join(ended.out.replace("│", " ").split())
    return bench / "on-set"


def test_a_check_on_the_set_measures_what_a_direct_check_does_to_the_bit(cli: Any, bench: Path, on_set: Path) -> None:
    ended = check(cli, bench, "--engine", INT8, *SCENES[:4], "--out", "direct")
    assert ended.code == 0, (ended.out, ended.err)
    assert measured(on_set) == measured(bench / "direct")
    assert report(on_set)["outcomes"] == report(bench / "direct")["outcomes"]
    attacks = {row["case"]["attack"] for row in report(on_set)["cases"]}
    assert attacks == {"pgd-lmse", "pgd-lmse-adaptive", "rainy", "rainy-adaptive", "uniform", "stripes"}
    stored = report(on_set)["provenance"]["adversarial"]
    index = json.loads((bench / "set" / "set.json").read_text())
    assert stored["source_sha256"] == index["source"]["weights_sha256"]


def test_every_image_lies_in_its_ball_and_says_so(bench: Path) -> None:
    index = json.loads((bench / "set" / "set.json").read_text())
    clean = {pair["id"]: np.asarray(Image.open(bench / "set" / pair["input"]), int) for pair in index["pairs"]}
    for case in index["cases"]:
        apart = np.abs(np.asarray(Image.open(bench / "set" / case["input"]), int) - clean[case["pair"]])
        assert apart.max() == case["largest"] <= case["level"]
        assert case["in_ball"]
    masked = [case["share"] for case in index["cases"] if case["attack"] == "rainy"]
    assert all(share < 1 for share in masked)


def test_outputs_that_onnxruntime_recorded_alone_get_the_engines_verdict(cli: Any, bench: Path, on_set: Path) -> None:
    here = report(on_set)
    for floats in (True, False):
        out = record(bench / INT8, bench / "set", bench / f"outputs-{floats}", floats=floats)
        run = f"recorded-{floats}"
        ended = check(cli, bench, "--engine", INT8, "--adversarial", "set", "--outputs", out.name, "--out", run)
        assert ended.code == 0, (ended.out, ended.err)
        there = report(bench / run)
        assert there["status"] == here["status"] == "PASS"
        assert any("no engine ran here: the 26 outputs" in note for note in there["notes"])
        assert any("8 bits" in note for note in there["notes"]) == (not floats)
        assert there["provenance"]["engine"]["kind"] == "recorded"
        for before, after in zip(
            here["cases"], sorted(there["cases"], key=lambda row: here_order(here, row)), strict=True
        ):
            assert before["case"] == after["case"]
            # PSNR is taken of 8-bit images in any case: only a level on the edge of rounding may differ.
            assert after["psnr_attacked"] == pytest.approx(before["psnr_attacked"], abs=1e-3)
        parity = {row["quantity"]: row for row in there["outcomes"] if row["requirement"] == "parity"}
        exact = {row["quantity"]: row for row in here["outcomes"] if row["requirement"] == "parity"}
        for quantity, row in parity.items():
            assert row["status"] == "PASS"
            if floats:
                assert row["value"] == pytest.approx(exact[quantity]["value"], abs=1e-3)
            else:
                # JSON has no infinity: none is what identical outputs have, and a limit that rounding leaves open.
                value, high = (math.inf if each is None else each for each in (exact[quantity]["value"], row["high"]))
                assert row["low"] < value <= high
        assert not any("repeat_max_abs" in line for line in measured(bench / run))


def here_order(here: dict[str, Any], row: dict[str, Any]) -> int:
    return [each["case"] for each in here["cases"]].index(row["case"])


def test_eight_bits_cannot_show_the_parity_of_fp32_and_floats_can(cli: Any, bench: Path) -> None:
    """Another engine than the set was crafted with; no artefact is named, its source is."""
    common = ("--adversarial", "set", "--source", "prenet-small", "--precision", "fp32")
    record(bench / FP32, bench / "set", bench / "fp32-png", floats=False)
    record(bench / FP32, bench / "set", bench / "fp32-npy", floats=True)
    eight = check(cli, bench, *common, "--outputs", "fp32-png", "--out", "eight")
    assert eight.code == 3, (eight.out, eight.err)
    rows = {row["quantity"]: row for row in report(bench / "eight")["outcomes"]}
    assert {rows[name]["status"] for name in ("conversion", "conversion-max-abs")} == {"INCONCLUSIVE"}
    assert rows["conversion"]["value"] == pytest.approx(58.9, abs=0.3)
    assert rows["drop"]["status"] == "PASS"
    assert "outputs of 8 bits cannot decide it" in " ".join(report(bench / "eight")["because"])
    assert "deploy-robust check --adversarial set --outputs fp32-png" in dict(report(bench / "eight")["next_steps"])
    page = (bench / "eight" / "report.html").read_text()
    assert "No engine ran here" in page
    assert "outputs.sha256" in (bench / "eight" / "junit.xml").read_text()
    floats = check(cli, bench, *common, "--outputs", "fp32-npy", "--out", "floats")
    assert floats.code == 0, (floats.out, floats.err)
    assert any("crafted on another engine or graph" in note for note in report(bench / "floats")["notes"])


def test_a_target_that_truncates_fails_by_parity_and_is_told_so(cli: Any, bench: Path) -> None:
    """The commonest slip in C++: a cast where rounding was meant. In 8 bits, too, it is no parity of fp32."""
    out = record(bench / FP32, bench / "set", bench / "damaged", floats=True)
    for path in sorted(out.iterdir()):
        values = np.load(path)
        path.unlink()
        Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8)).save(path.with_suffix(".png"))
    ended = check(
        cli,
        bench,
        "--adversarial",
        "set",
        "--source",
        "prenet-small",
        "--precision",
        "fp32",
        "--outputs",
        "damaged",
        "--out",
        "damaged-run",
    )
    assert ended.code == 1, (ended.out, ended.err)
    assert "parity did not hold" in ended.out
    assert any("truncated" in note for note in report(bench / "damaged-run")["notes"])


def test_a_set_that_was_touched_is_named(cli: Any, bench: Path, tmp_path: Path) -> None:
    inputs = sorted((bench / "set" / "inputs").iterdir())

    def complaint(spoil: Any) -> str:
        folder = tmp_path / "set"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bench / "set", folder)
        spoil(folder / "inputs" / inputs[3].name)
        said: str = check(
            cli, tmp_path, "--engine", str(bench / INT8), "--adversarial", "set", "--out", "run"
        ).complaint()
        assert not (tmp_path / "run").exists()
        return said

    shutil.copy(bench / "policy.toml", tmp_path)
    assert f"{inputs[3].name} is changed" in complaint(lambda path: shutil.copy(inputs[4], path))
    assert f"{inputs[3].name} is missing" in complaint(lambda path: path.unlink())
    assert "inputs/extra.png is not of the set" in complaint(
        lambda path: shutil.copy(path, path.with_name("extra.png"))
    )


def test_missing_frames_and_wrong_options_are_no_verdict(cli: Any, bench: Path) -> None:
    out = record(bench / INT8, bench / "set", bench / "short", floats=False)
    gone = sorted(out.iterdir())[:3]
    for path in gone:
        path.unlink()
    said = check(cli, bench, "--engine", INT8, "--adversarial", "set", "--outputs", "short", "--out", "no").complaint()
    assert "3 of 26 frames have no output" in said
    assert gone[0].name in said
    for arguments, words in (
        (("--engine", INT8, "--adversarial", "set", "--limit", "2"), "--limit was settled"),
        (("--engine", INT8, "--outputs", "short"), "--adversarial"),
        (("--adversarial", "set"), "--engine"),
        (("--adversarial", "set", "--outputs", "short", "--runtime", "openvino"), "--runtime"),
        (("--adversarial", "set", "--outputs", "short", "--range", "0,255"), "--range"),
        (("--engine", INT8, "--adversarial", "engines"), "no adversarial set"),
    ):
        assert words in check(cli, bench, *arguments, "--out", "no").complaint()
    assert not (bench / "no").exists()


def test_a_policy_that_asks_for_more_than_the_set_holds_is_refused(cli: Any, bench: Path, tmp_path: Path) -> None:
    more = POLICY.replace("iterations = 2", "iterations = 3").replace("[2, 4]", "[1, 2]", 1)
    more = more.replace("[attacks.uniform]", "[attacks.corners]").replace("levels = [2, 4]", "levels = [2]")
    (tmp_path / "policy.toml").write_text(more)
    said = check(
        cli, tmp_path, "--engine", str(bench / INT8), "--adversarial", str(bench / "set"), "--out", "no"
    ).complaint()
    assert "epsilon 1/255" in said
    assert "attack corners" in said
    assert "iterations = 3 (it ran with 2)" in said


def test_a_case_of_recorded_outputs_replays_and_the_crafting_run_is_no_check(
    cli: Any, bench: Path, on_set: Path
) -> None:
    case = ("scene-test-000001", "stripes", "4")
    ended = cli.run("replay", "on-set", *case, "--tolerance", "0", cwd=bench)
    assert ended.code == 0, (ended.out, ended.err)
    for command in (("judge", "set.run"), ("runs", "show", "set.run"), ("replay", "set.run", *case)):
        assert "crafted an adversarial set" in cli.run(*command, cwd=bench).complaint()
    listed = json.loads(cli.run("runs", "list", ".", "--json", cwd=bench).out)
    (line,) = [each for each in listed if each["folder"] == "set.run"]
    assert (line["engine"], line["done"], line["problem"]) == (INT8, 26, "")


def test_searches_need_an_engine_and_names_must_be_known(cli: Any, bench: Path) -> None:
    def complaint(*arguments: str) -> str:
        said: str = cli.run("attack", *arguments, "--out", "none", cwd=bench).complaint()
        return said

    assert "name one with --engine" in complaint("--source", "prenet-small", "--attack", "square", "--limit", "1")
    assert "did you mean 'corners'" in complaint("--source", "prenet-small", "--attack", "cornres")
    assert "--source" in complaint("--attack", "uniform")
    assert "two folders" in complaint("--source", "prenet-small", "--run", "none")
    assert "whole epsilon" in complaint("--source", "prenet-small", "--epsilon", "0.5/255")
    assert not (bench / "none").exists()
