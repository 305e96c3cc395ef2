"""A process of its own: what crashes, hangs or is killed there, and what the supervisor makes of it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, RunError
from deploy_robust.gate.isolation import IsolatedExecutor
from deploy_robust.gate.records import Batch, BatchResult, Case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

HERE = os.getpid()
JUDGED = frozenset({"engine"})


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `scripted`, importable here and, because the worker inherits the path, there."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("scripted")


@pytest.fixture
def isolated(scripted: ModuleType) -> Iterator[IsolatedExecutor[Any]]:
    executor: IsolatedExecutor[Any] = IsolatedExecutor(scripted.Builder(), judged=JUDGED, timeout=0.5)
    yield executor
    executor.close()


def batch(text: str) -> Batch:
    return (Case(text),)


def pid(result: BatchResult) -> float:
    return result.measurements[0].values["pid"]


def test_batches_run_in_one_other_process(isolated: IsolatedExecutor[str]) -> None:
    assert isolated.start() == "facts"
    first, second = (pid(isolated.execute(batch(name))) for name in "ab")
    assert first == second != HERE


@pytest.mark.parametrize(("what", "kind"), [("abort", "crash"), ("hang", "timeout")])
def test_what_the_engine_does_is_recorded_with_its_image_and_the_run_goes_on(
    isolated: IsolatedExecutor[str], what: str, kind: str
) -> None:
    before = pid(isolated.execute(batch("a")))
    (m,) = (result := isolated.execute(batch(f"{what} in engine"))).measurements
    assert m.defect is not None
    assert (m.defect.kind, m.role, m.case.pair) == (kind, "engine", f"{what} in engine")
    assert result.images[m.input_image].shape == (32, 32, 3)
    assert pid(isolated.execute(batch("b"))) != before


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("abort in source", "died inside the source"),
        ("abort", "died between two engine calls"),
        ("hang in source", "the source took more than 0.5 seconds"),
        ("kill in engine", "killed from outside"),
    ],
)
def test_what_is_not_the_engines_doing_is_our_trouble(
    isolated: IsolatedExecutor[str], what: str, complaint: str
) -> None:
    with pytest.raises(RunError, match=complaint):
        isolated.execute(batch(what))


def test_errors_come_back_as_they_are(isolated: IsolatedExecutor[str]) -> None:
    with pytest.raises(ArtefactError, match="not this file"):
        isolated.execute(batch("refuse"))
    assert pid(isolated.execute(batch("a"))) != HERE


def test_a_load_that_ends_the_process_is_told(scripted: ModuleType) -> None:
    executor: IsolatedExecutor[str] = IsolatedExecutor(scripted.Builder("abort"), judged=JUDGED, timeout=5)
    with pytest.raises(EnvironmentProblem, match="SIGABRT"):
        executor.start()
    executor.close()


def test_a_load_that_hangs_is_told(scripted: ModuleType) -> None:
    executor: IsolatedExecutor[str] = IsolatedExecutor(scripted.Builder("hang"), judged=JUDGED, timeout=5, loading=4)
    with pytest.raises(EnvironmentProblem, match="did not end within 4 seconds"):
        executor.start()


def test_a_load_that_is_refused_is_told_with_its_kind(scripted: ModuleType) -> None:
    executor: IsolatedExecutor[str] = IsolatedExecutor(scripted.Builder("refuse"), judged=JUDGED, timeout=5)
    with pytest.raises(EngineDefect, match="wrong shape") as caught:
        executor.start()
    assert caught.value.kind == "shape"
    executor.close()


def test_a_crash_is_put_down_to_the_pair_that_did_it_and_the_others_are_measured(
    isolated: IsolatedExecutor[Any],
) -> None:
    found = isolated.execute((Case("a"), Case("abort in engine"), Case("b"))).measurements
    assert {m.case.pair: None if m.defect is None else m.defect.kind for m in found} == {
        "a": None,
        "abort in engine": "crash",
        "b": None,
    }
    assert len(found) == 3


def test_a_crash_under_one_attack_leaves_the_others_measured(isolated: IsolatedExecutor[Any]) -> None:
    cases = (Case("abort in engine"), Case("abort in engine", "quiet", 1.0), Case("abort in engine", "loud", 2.0))
    found = isolated.execute(cases[1:]).measurements
    assert {m.case: None if m.defect is None else m.defect.kind for m in found} == {cases[1]: None, cases[2]: "crash"}
    (clean,) = isolated.execute(cases).measurements  # the clean image itself: nothing else is tried
    assert clean.defect is not None
