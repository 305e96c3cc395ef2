"""``kill -9`` of the whole process group at moments drawn beforehand; `make soak` draws ten times as many."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.errors import RunError
from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.store import FILE_NAME, SqliteStore
from deploy_robust.models.checkpoints import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Points = Callable[..., list[float]]

EXPORT = ("export", "--checkpoint", "tiny.safetensors", "--precision", "fp32", "--calibration-count", "1")
TRAIN = (
    *("train", "--preset", "tiny", "--data", "scenes", "--pairs", "2", "--held-out", "1", "--size", "32"),
    *("--crop", "24", "--batch", "1", "--steps", "40", "--validate-every", "10", "--threads", "1"),
)


def dump(folder: Path) -> str:
    with SqliteStore.read(folder) as store:
        return canonical_dump(store)


def finished(folder: Path) -> int:
    """Batches that survived; a run that was killed before its first transaction is none."""
    try:
        with SqliteStore.read(folder) as store:
            return len(store.finished())
    except RunError:
        return 0


def test_a_killed_check_goes_on_and_ends_with_the_same_bytes(bench: Any, checked: Any, points: Points) -> None:
    whole, out = dump(bench.folder / "whole"), bench.folder / "killed"
    with sqlite3.connect(bench.folder / "whole" / FILE_NAME) as db:
        moments = [moment - checked.began for (moment,) in db.execute("SELECT finished_at FROM batch")]
    working, always = (min(moments) - 0.5, max(moments)), (0.0, checked.seconds)
    survived = []
    for after in points("check", "DEPLOY_ROBUST_SOAK_CHECK", 5, working, always, working):
        if not bench.run_and_kill(after, *bench.check("killed"), writes=[out.name]):
            continue
        survived.append(finished(out))
        ended = bench.run(*bench.check("killed"))
        assert ended.code == 0, (after, ended.err)
        assert dump(out) == whole, f"killed after {after:.3f} s"
        assert (out / "report.html").is_file()
    print(f"\n{len(survived)} kills; batches of {len(moments)} that had survived: {survived}")  # noqa: T201
    assert survived


def test_a_killed_attack_goes_on_and_ends_with_the_same_files(bench: Any, points: Points) -> None:
    def attack(out: str) -> list[str]:
        return [
            *("attack", "--source", "tiny.safetensors", "--policy", "tiny.toml", "--limit", "6", "--size", "32"),
            *("--threads", "1", "--quiet", "--out", out),
        ]

    def files(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    whole = bench.run(*attack("whole-set"))
    assert whole.code == 0, whole.err
    wanted, out = files(bench.folder / "whole-set"), bench.folder / "killed-set"
    with sqlite3.connect(bench.folder / "whole-set.run" / FILE_NAME) as db:
        moments = [moment - whole.began for (moment,) in db.execute("SELECT finished_at FROM batch")]
    kills = 0
    crafting, writing = (min(moments), max(moments)), (max(moments), whole.seconds)
    for after in points("attack", "DEPLOY_ROBUST_SOAK_ATTACK", 2, crafting, writing):
        kills += bench.run_and_kill(after, *attack("killed-set"), writes=["killed-set", "killed-set.run"])
        assert not out.exists() or files(out) == wanted, f"a part of a set after {after:.3f} s"
        ended = bench.run(*attack("killed-set"))
        assert ended.code == 0, (after, ended.err)
        assert files(out) == wanted, f"killed after {after:.3f} s"
        assert not list(bench.folder.glob(".killed-set*")), "a draft is still there"
    assert kills


def test_killing_the_parent_leaves_no_orphan(bench: Any, checked: Any) -> None:
    out = bench.folder / "orphaned"
    process = bench.start(*bench.check("orphaned", "--limit", "400"))
    try:
        while finished(out) == 0:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:  # noqa: PTH123
            (child,) = (int(word) for word in file.read().split())
        watch = os.pidfd_open(child)
        process.kill()
        poll = select.poll()
        poll.register(watch)
        assert poll.poll(20_000), "the process for batches goes on for nobody"
        os.close(watch)
    finally:
        process.kill()
        process.communicate(timeout=60)
    ended = bench.run(*bench.check("orphaned", "--limit", "400", "--max-minutes", "0"))
    assert ended.code == 3, ended.err
    assert "of 1200 cases are finished" in ended.out


def test_two_processes_on_one_folder(bench: Any, checked: Any) -> None:
    """One works, the other says so and leaves it in peace."""
    out = bench.folder / "shared"
    first = bench.start(*bench.check("shared", "--limit", "12"))
    try:
        while finished(out) == 0:
            with pytest.raises(subprocess.TimeoutExpired):
                first.wait(timeout=0.05)
        os.killpg(first.pid, signal.SIGSTOP)
        second = bench.run(*bench.check("shared", "--limit", "12"))
        pruning = bench.run("runs", "prune", "shared")
        os.killpg(first.pid, signal.SIGCONT)
        _, errors = first.communicate(timeout=240)
    finally:
        first.kill()
    assert first.returncode == 0, errors
    for refused in (second, pruning):
        assert refused.code == 2
        assert "another process works on the run folder shared" in refused.err
    with SqliteStore.read(out) as store:
        assert store.cases == 12 * 3


def test_a_killed_export_leaves_nothing_or_a_whole_artefact(bench: Any, points: Points) -> None:
    whole = bench.run(*EXPORT, "--out", "engines")
    assert whole.code == 0, whole.err
    (engine,) = (bench.folder / "engines").glob("*.onnx")
    wanted, out = engine.read_bytes(), bench.folder / "killed-engines"
    kills = 0
    for after in points("export", "DEPLOY_ROBUST_SOAK_EXPORT", 2, (2.0, whole.seconds)):
        kills += bench.run_and_kill(after, *EXPORT, "--out", out.name, writes=[out.name])
        artefacts = list(out.glob("[!.]*.onnx"))
        # The same weights and libraries give the same bytes: equal bytes are those that parity was measured on.
        assert all(path.read_bytes() == wanted for path in artefacts), f"killed after {after:.3f} s"
        ended = bench.run(*EXPORT, "--out", out.name)
        assert ended.code == 0, ended.err
        assert (out / engine.name).read_bytes() == wanted
        manifest = json.loads((out / f"{engine.name}.json").read_text())
        assert manifest["artefact"]["sha256"] == hashlib.sha256(wanted).hexdigest()
        assert manifest["parity"]
        assert not list(out.glob(".*")), "what the killed export left is still there"
    assert kills


def test_a_killed_training_goes_on_and_ends_with_the_same_weights(bench: Any, points: Points) -> None:
    whole = bench.run(*TRAIN, "--out", "whole.safetensors")
    assert whole.code == 0, whole.err
    _, wanted = load_checkpoint(bench.folder / "whole.safetensors")
    kills = 0
    for number, after in enumerate(points("training", "DEPLOY_ROBUST_SOAK_TRAIN", 2, (1.0, whole.seconds))):
        out = f"killed-{number}.safetensors"
        kills += bench.run_and_kill(after, *TRAIN, "--out", out, writes=[out, f"killed-{number}.state"])
        ended = bench.run(*TRAIN, "--out", out)
        assert ended.code == 0, ended.err
        _, found = load_checkpoint(bench.folder / out)
        assert found.weights_sha256 == wanted.weights_sha256, f"killed after {after:.3f} s"
    assert kills
