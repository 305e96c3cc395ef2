"""A full disk, a folder that cannot be written, a clock that was set back: a clear word, and nothing lost."""

from __future__ import annotations

import os
import resource
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.records import BatchResult, Case, Measurement
from deploy_robust.gate.store import FILE_NAME, SqliteStore

if TYPE_CHECKING:
    from pathlib import Path


def dump(folder: Path) -> str:
    with SqliteStore.read(folder) as store:
        return canonical_dump(store)


def complaint(ended: Any) -> str:
    assert ended.code == 2, (ended.out, ended.err)
    assert ended.err.count("\n") == 1, ended.err
    assert "internal error" not in ended.err
    return str(ended.err)


def full_at(kilobytes: int) -> Any:
    """What makes a disk full for a process that is about to start: no file grows beyond that."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))


@pytest.mark.parametrize(("kilobytes", "batches"), [(20, False), (200, True)], ids=["at first", "on the way"])
def test_a_disk_that_fills_up(bench: Any, checked: Any, kilobytes: int, batches: bool) -> None:
    out = bench.folder / f"full-{kilobytes}"
    said = complaint(bench.run(*bench.check(out.name), preexec_fn=full_at(kilobytes)))
    assert "make room" in said
    assert FILE_NAME in said
    if batches:
        with SqliteStore.read(out) as store:
            assert store.finished()
    ended = bench.run(*bench.check(out.name))
    assert ended.code == 0, ended.err
    assert dump(out) == dump(bench.folder / "whole")


def test_a_disk_that_is_full_when_reports_are_written(bench: Any, checked: Any) -> None:
    out = bench.folder / "full-at-last"
    shutil.copytree(bench.folder / "whole", out)
    (out / "report.html").unlink()
    assert "report.html" in complaint(bench.run(*bench.check(out.name), preexec_fn=full_at(100)))
    assert not (out / "report.html").exists()
    assert bench.run(*bench.check(out.name)).code == 0
    assert (out / "report.html").is_file()
    assert dump(out) == dump(bench.folder / "whole")


def test_a_folder_that_cannot_be_written(bench: Any) -> None:
    (bench.folder / "file").write_text("in the way")
    assert "cannot write the run folder file" in complaint(bench.run(*bench.check("file")))
    assert "cannot write the run folder file/run" in complaint(bench.run(*bench.check("file/run")))
    assert (bench.folder / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder(bench: Any) -> None:
    folder = bench.folder / "read-only"
    folder.mkdir(mode=0o500)
    assert "cannot write the run folder read-only" in complaint(bench.run(*bench.check(folder.name)))
    assert not list(folder.iterdir())


def test_a_store_that_is_none_is_told(bench: Any) -> None:
    folder = bench.folder / "other"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(b"not a database at all" * 400)
    assert "it is damaged or none of our runs" in complaint(bench.run(*bench.check("other")))


def test_a_store_with_a_hole_in_it_is_told(bench: Any, checked: Any) -> None:
    folder = bench.folder / "holed"
    shutil.copytree(bench.folder / "whole", folder)
    content = bytearray((folder / FILE_NAME).read_bytes())
    content[2 * 4096 :] = bytes(len(content) - 2 * 4096)
    (folder / FILE_NAME).write_bytes(content)
    for command in (("runs", "show", "holed"), ("judge", "holed", "--policy", "tiny.toml")):
        assert "is damaged" in complaint(bench.run(*command))


def test_a_clock_that_was_set_back_changes_nothing(tmp_path: Path) -> None:
    def write(folder: Path, times: list[float]) -> str:
        for index, now in enumerate(times):
            with SqliteStore.create_or_resume(folder, {"plan": 1}, clock=lambda now=now: now) as store:  # type: ignore[misc]
                case = Case(f"pair-{index}")
                found = Measurement(case, "scene", "engine", "8bit", {"psnr": 20.0 + index})
                store.append(index, (case,), BatchResult((found,)))
        return dump(folder)

    backwards = write(tmp_path / "backwards", [4e9, 1e9, 5.0, -3.0])
    assert backwards == write(tmp_path / "forwards", [1.0, 2.0, 3.0, 4.0])
    with SqliteStore.read(tmp_path / "backwards") as store:
        assert [m.case.pair for m in store.measurements()] == [f"pair-{index}" for index in range(4)]
        assert len(store.finished()) == 4
