"""Commands on run folders: list, show, prune, judge again, replay, and checks that are planned or cut short."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch

from deploy_robust.app.replay import parse_case
from deploy_robust.cli.main import main
from deploy_robust.errors import UsageError
from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.records import Case
from deploy_robust.gate.store import SqliteStore
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = """
schema = 1
name = "tiny"
[threat]
levels = [2, 4]
[attacks.pgd-lmse]
iterations = 2
[attacks.uniform]
[parity]
minimum_pairs = 1
fp32 = { conversion = 90 }
[[requirement]]
name = "do-no-harm"
quantity = "attacked-gain"
levels = [2]
at_least = -60
"""
CHECK = [
    *("check", "--engine", "tiny.safetensors", "--source", "tiny.safetensors", "--policy", "tiny.toml"),
    *("--limit", "3", "--size", "32", "--threads", "1", "--out"),
]
CASES = 3 * 5


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, a policy, and a finished run of them in ``run``."""
    folder = tmp_path_factory.mktemp("made")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_checkpoint(folder / "tiny.safetensors", MODELS.create("prenet", "tiny"), {})
    (folder / "tiny.toml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as stop:
            main([*CHECK, "run", "--quiet"])
    assert stop.value.code == 0
    return folder


@pytest.fixture
def run(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs a command in a copy of that folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Ended(stop.value.code, captured.out, captured.err)

    return command


def dump(folder: Path) -> str:
    with SqliteStore.read(folder) as store:
        return canonical_dump(store)


# -- list, show, prune


def test_runs_are_listed_with_what_they_came_to(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.sqlite").write_bytes(b"nothing of the kind" * 100)
    ended = run("runs", "list", ".")
    assert ended.code == 0
    for word in ("tiny.safetensors", "scenes", "PASS", str(CASES), "unreadable"):
        assert word in ended.out
    broken, line = json.loads(run("runs", "list", ".", "--json").out)
    assert "damaged" in broken["problem"]
    assert (line["folder"], line["done"], line["planned"], line["ended"]) == ("run", CASES, CASES, True)
    assert (line["verdict"], line["policy"], line["pairs"]) == ("PASS", "tiny", 3)
    assert line["images"] == 3 * 2 + 3 * 4 * 2
    assert 0 <= line["age_seconds"] < 3600
    assert run("runs", "list", "nowhere").code == 2


def test_a_run_is_shown_as_its_check_ended(run: Callable[..., Ended], tmp_path: Path) -> None:
    before = (tmp_path / "run" / "report.json").read_bytes()
    ended = run("runs", "show", "run")
    assert ended.code == 0
    assert "PASS: all 2 requirements hold" in ended.out
    assert "worst: scene-test-00000" in ended.out
    shown = json.loads(run("runs", "show", "run", "--json").out)
    assert shown["report"] == json.loads(before)
    assert (tmp_path / "run" / "report.json").read_bytes() == before
    assert run("runs", "show", "elsewhere").code == 2


def test_pruning_keeps_figures_and_the_worst_images(run: Callable[..., Ended], tmp_path: Path) -> None:
    with SqliteStore.read(tmp_path / "run") as store:
        measured = list(store.measurements())
    (pruned,) = json.loads(run("runs", "prune", "run", "--keep", "2", "--json").out)
    assert pruned["kept"] <= 2 * 4
    assert pruned["dropped"] + pruned["kept"] == 3 * 2 + 3 * 4 * 2
    assert pruned["megabytes"] < pruned["megabytes_before"]
    worst = json.loads((tmp_path / "run" / "report.json").read_text())["cases"][0]
    with SqliteStore.read(tmp_path / "run") as store:
        assert list(store.measurements()) == measured
        assert store.image(worst["attacked"]).shape == (32, 32, 3)
    assert run("runs", "prune", "run").code == 0
    with SqliteStore.read(tmp_path / "run") as store:
        assert not store.image_names()
    assert run("judge", "run", "--policy", "tiny.toml", "--quiet").code == 0  # its reports do without images


def test_pruning_by_age_needs_a_run_that_is_old(run: Callable[..., Ended], tmp_path: Path) -> None:
    assert "nothing to prune" in run("runs", "prune", "--older-than", "1", "--under", ".").out
    assert "30 images dropped" in run("runs", "prune", "--older-than", "0", "--under", ".").out
    assert run("runs", "prune").code == 2
    assert run("runs", "prune", "run", "--older-than", "1").code == 2


def test_a_run_in_use_is_not_pruned(run: Callable[..., Ended], tmp_path: Path) -> None:
    with SqliteStore.reopen(tmp_path / "run"):
        ended = run("runs", "prune", "run")
    assert ended.code == 2
    assert "another process works on" in ended.err


# -- judge


def test_another_policy_judges_the_same_measurements(run: Callable[..., Ended], tmp_path: Path) -> None:
    before = dump(tmp_path / "run")
    (tmp_path / "strict.toml").write_text(POLICY.replace("-60", "60").replace('"tiny"', '"strict"'))
    ended = run("judge", "run", "--policy", "strict.toml")
    assert ended.code == 1
    assert "FAIL: do-no-harm did not hold" in ended.out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["status"] == "FAIL"
    assert report["provenance"]["policy"]["name"] == "strict"
    assert json.loads(run("runs", "list", ".", "--json").out)[0]["verdict"] == "FAIL"
    (tmp_path / "many.toml").write_text("minimum_scenes = 24\nschema = 1\n" + POLICY.replace("schema = 1\n", ""))
    assert run("judge", "run", "--policy", "many.toml", "--quiet").code == 3
    assert dump(tmp_path / "run") == before


def test_a_policy_may_ask_for_less_and_not_for_more(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "less.toml").write_text(POLICY.replace("[2, 4]", "[2]").replace("[attacks.uniform]\n", ""))
    assert run("judge", "run", "--policy", "less.toml", "--out", "apart", "--quiet").code == 0
    assert (tmp_path / "apart" / "report.html").is_file()
    more = POLICY.replace("[2, 4]", "[1, 2]").replace("= 2\n", "= 20\n").replace("uniform", "corners")
    (tmp_path / "more.toml").write_text(more)
    ended = run("judge", "run", "--policy", "more.toml")
    assert ended.code == 2
    for missing in ("epsilon 1;", "attack corners", "pgd-lmse with iterations = 20 (it ran with iterations = 2)"):
        assert missing in ended.err


def test_judging_imports_no_network_library(made: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom deploy_robust.app.judge import judge_again\n"
        "result = judge_again(Path('run'), 'tiny.toml', Path('light'))\n"
        "print(result.verdict.status.value, sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=made, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "PASS []\n", ended.stderr


# -- replay


@pytest.mark.parametrize(
    ("words", "case"),
    [
        (["a b", "pgd-lmse", "2"], Case("a b", "pgd-lmse", 2.0)),
        (["a", "b", "pgd-lmse@2"], Case("a b", "pgd-lmse", 2.0)),
        (["a b pgd-lmse@2"], Case("a b", "pgd-lmse", 2.0)),
        (["a, b, uniform at 8/255"], Case("a, b", "uniform", 8.0)),
        (["a b, clean"], Case("a b")),
        (["a b", "clean"], Case("a b")),
        (["a", "clean", "0"], Case("a")),
    ],
)
def test_a_case_is_read_as_it_is_printed(words: list[str], case: Case) -> None:
    assert parse_case(words) == case
    assert parse_case([str(case)]) == case


@pytest.mark.parametrize("words", [["a"], ["a", "pgd-lmse"], ["a", "pgd-lmse@x"], ["a", "clean@x"], ["", "uniform@2"]])
def test_what_names_no_case_is_told(words: list[str]) -> None:
    with pytest.raises(UsageError, match="names no case"):
        parse_case(words)


def test_a_case_comes_out_the_same_to_the_bit(run: Callable[..., Ended], tmp_path: Path) -> None:
    before = dump(tmp_path / "run")
    ended = run("replay", "run", "scene-test-000001", "pgd-lmse", "4", "--tolerance", "0", "--json")
    assert ended.code == 0, ended.err
    outcome = json.loads(ended.out)
    compared = {(f["role"], f["delivery"], f["name"]) for f in outcome["figures"]}
    assert {("engine", "8bit", "psnr"), ("source", "float", "ssim"), ("engine", "8bit", "input image")} <= compared
    assert all(f["stored"] == f["now"] for f in outcome["figures"])
    assert outcome["notes"] == []
    assert dump(tmp_path / "run") == before


def test_a_case_that_was_stored_otherwise_differs(run: Callable[..., Ended], tmp_path: Path) -> None:
    with SqliteStore.reopen(tmp_path / "run") as store:
        store._db.execute("UPDATE measurement SET metrics = replace(metrics, '\"psnr\": 1', '\"psnr\": 2')")
    ended = run("replay", "run", "scene-test-000001", "clean")
    assert ended.code == 1, ended.err
    assert "it differs" in ended.out


def test_a_replay_needs_the_same_engine_and_a_case_that_is_there(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("replay", "run", "scene-test-000001", "pgd-lmes@4")
    assert ended.code == 2
    assert "did you mean 'scene-test-000001 pgd-lmse@4'" in ended.err
    (tmp_path / "tiny.safetensors").rename(tmp_path / "moved.safetensors")
    ended = run("replay", "run", "scene-test-000001", "clean")
    assert ended.code == 2
    assert "--engine FILE" in ended.err
    (tmp_path / "other.safetensors").write_bytes(b"other")
    ended = run("replay", "run", "scene-test-000001", "clean", "--engine", "other.safetensors")
    assert ended.code == 2
    assert "is not the engine of the run" in ended.err


# -- planned, and cut short


def test_a_dry_run_tells_and_leaves_nothing(run: Callable[..., Ended], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    ended = run(*CHECK, "other", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["pairs"], found["cases"], found["batch"], found["size"]) == (3, CASES, 1, [32, 32])
    assert found["engine"].startswith("tiny.safetensors, fp32, on cpu")
    assert 0 < found["batch_seconds"] < found["seconds"]
    assert 1e8 < found["memory_bytes"] < 4e9
    assert sorted(tmp_path.rglob("*")) == before


def test_a_check_that_runs_out_of_time_is_inconclusive_and_goes_on(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run(*CHECK, "slice", "--max-minutes", "0")
    assert ended.code == 3, ended.err
    assert f"0 of {CASES} cases are finished: repeat the check to go on" in " ".join(ended.out.replace("│", "").split())
    assert "unfinished" in run("runs", "list", ".").out
    assert run(*CHECK, "slice", "--quiet").code == 0
    assert dump(tmp_path / "slice") == dump(tmp_path / "run")
