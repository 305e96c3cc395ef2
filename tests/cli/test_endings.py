"""Ways to end that are no verdict: faults of ours, Ctrl-C, a reader who has gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from deploy_robust.app.runs import list_runs, show_run
from deploy_robust.errors import EnvironmentProblem
from deploy_robust.gate.isolation import IsolatedExecutor


def test_a_fault_of_ours_is_told_in_one_line_and_its_traceback_on_demand(
    cli: Any, package: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text('"lame"')
    (tmp_path / "quick.toml").write_text(cli.QUICK)
    check = ("check", "--engine", "net.madeup", "--policy", "quick.toml", "--size", "32")
    ended = cli.run(*check, cwd=tmp_path, environment=package)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert "internal error" in ended.err
    assert "KeyError: 'what can it do'" in ended.err
    debugged = cli.run("--debug", *check, cwd=tmp_path, environment=package)
    assert debugged.code == 2
    assert "in capabilities" in debugged.err


def batches(run: Path) -> list[tuple[Any, ...]]:
    if not (run / "run.sqlite").is_file():
        return []
    store = sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)
    try:
        return store.execute("SELECT number, digest, finished_at FROM batch ORDER BY number").fetchall()
    except sqlite3.OperationalError:  # the tables are about to be made
        return []
    finally:
        store.close()


def test_an_interrupted_check_goes_on_with_the_same_command(
    cli: Any, package: dict[str, str], brightness: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text(json.dumps([[201, 205, "hang_unless_cured"]]))
    (tmp_path / "quick.toml").write_text(cli.QUICK)
    check = ("check", "--engine", "net.madeup", "--policy", "quick.toml", "--data", str(brightness), "--out", "run")
    # A suite that was started in the background of a script inherits an ignored Ctrl-C, and so would the command.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = cli.start(*check, cwd=tmp_path, environment=package, process_group=0)
    finally:
        signal.signal(signal.SIGINT, inherited)
    hanging, end = tmp_path / "hanging", time.monotonic() + 120
    while not (hanging.exists() and hanging.read_text()):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    before = batches(tmp_path / "run")
    assert before
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.lstrip().startswith("deploy-robust: interrupted")  # after ^C click begins a new line
    assert err.strip().count("\n") == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(hanging.read_text()), 0)
    assert not (tmp_path / "run" / "report.json").exists()

    cured = cli.run(*check, cwd=tmp_path, environment={**package, "CURED": "1"})
    assert cured.code in (0, 1, 3), cured.err
    after = batches(tmp_path / "run")
    assert after[: len(before)] == before
    assert len(after) > len(before)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["defects"] == []
    assert {row["case"]["pair"] for row in report["cases"]} == {"bright", "dark", "middle"}


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["check"]])
def test_a_reader_who_has_gone_is_no_verdict(cli: Any, tmp_path: Path, arguments: list[str]) -> None:
    if arguments == ["check"]:
        cli.identity(tmp_path / "net.onnx")
        (tmp_path / "quick.toml").write_text(cli.QUICK)
        arguments = ["check", "--engine", "net.onnx", "--policy", "quick.toml", "--size", "32", "--limit", "2"]
    process = cli.start(*arguments, cwd=tmp_path)
    process.stdout.close()
    assert process.wait(timeout=120) == 2
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_terminated_check_says_so_and_leaves_nobody_behind(
    cli: Any, package: dict[str, str], brightness: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.madeup").write_text(json.dumps([[201, 205, "hang"]]))
    (tmp_path / "quick.toml").write_text(cli.QUICK)
    check = ("check", "--engine", "net.madeup", "--policy", "quick.toml", "--data", str(brightness), "--out", "run")
    process = cli.start(*check, cwd=tmp_path, environment=package, process_group=0)
    hanging, end = tmp_path / "hanging", time.monotonic() + 120
    while not (hanging.exists() and hanging.read_text()):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == ""
    assert err == (
        "deploy-robust: terminated (SIGTERM); what was finished is kept, the same command goes on from there\n"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(hanging.read_text()), 0)
    assert batches(tmp_path / "run")


TWICE = """
import os, signal, time
from deploy_robust.cli import signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background hands it down ignored
signals.listen()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    print("ending", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still there", flush=True)
"""


def test_a_second_interrupt_ends_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "ending\n", "")


@pytest.mark.parametrize(
    "surroundings", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_output_is_utf_8_whatever_the_locale_says(cli: Any, tmp_path: Path, surroundings: dict[str, str]) -> None:
    engine = cli.identity(tmp_path / "net.onnx")
    ended = cli.check(engine, cwd=tmp_path, environment=surroundings)
    assert ended.code in (0, 1, 3), ended.err
    assert "≤" in ended.out
    assert "≤" in (tmp_path / "runs" / "check" / "summary.md").read_text(encoding="utf-8")


def test_an_interpreter_that_may_not_be_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = tmp_path / "python"
    refused.write_text("#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(refused))
    with pytest.raises(EnvironmentProblem, match=r"python .*Permission denied.*make that interpreter executable"):
        IsolatedExecutor(lambda _: None, judged=frozenset(), timeout=1).start()


def test_a_run_folder_that_is_read_only_can_be_shown(cli: Any, tmp_path: Path) -> None:
    """As another user where we are root, who may write everything."""
    cli.check(cli.identity(tmp_path / "net.onnx"), "--out", "run", cwd=tmp_path)
    show_run(tmp_path / "run")  # imports what another user may not read
    with tempfile.TemporaryDirectory() as shared:
        folder = Path(shared) / "run"
        shutil.copytree(tmp_path / "run", folder)
        for path, mode in ((Path(shared), 0o755), (folder, 0o555), *((each, 0o444) for each in folder.iterdir())):
            path.chmod(mode)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                (folder / "mine").touch()
            line, result = show_run(folder)
            (listed,) = list_runs(Path(shared))
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
    assert line.problem == listed.problem == ""
    assert line.images == listed.images > 0
    assert result.verdict.status == listed.verdict
