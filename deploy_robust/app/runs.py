"""The use cases `runs list`, `runs show` and `runs prune`: what run folders hold, and making them smaller."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.app.judge import ENDED, PLANNED, VERDICT, CheckResult, judge_store, policy_of
from deploy_robust.app.run_plan import require_judged
from deploy_robust.errors import InputError, RunError
from deploy_robust.gate.run_spec import VERDICT_NOTE
from deploy_robust.gate.store import FILE_NAME, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy_robust.report.records import CaseRow, Summary

SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a list.

    Attributes:
        folder: The run folder.
        engine: File name of the engine; names of engines that were compared; of a set without an engine, the source.
        data: Name of the pair source.
        pairs: How many pairs it has.
        done: Finished cases.
        planned: Planned cases, at most; None where that is open.
        ended: Whether the plan came to its end.
        verdict: What the run came to when it was last judged; None before that.
        policy: Name of the policy that judged it, or that it was made for.
        megabytes: Size of the store in 10**6 bytes.
        images: How many images it holds.
        age_seconds: Since the last batch; 0 where the clock was set back.
        problem: Why the run cannot be read; empty where it can.
    """

    folder: Path
    engine: str = ""
    data: str = ""
    pairs: int = 0
    done: int = 0
    planned: int | None = None
    ended: bool = False
    verdict: str | None = None
    policy: str = ""
    megabytes: float = 0.0
    images: int = 0
    age_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning a run did.

    Attributes:
        folder: The run folder.
        dropped: Images that are gone.
        kept: Images that stay.
        megabytes_before: Size of the store before, in 10**6 bytes.
        megabytes: Size of the store now.
    """

    folder: Path
    dropped: int
    kept: int
    megabytes_before: float
    megabytes: float


def list_runs(under: Path) -> list[RunLine]:
    """Every run below a folder, by path; a run that cannot be read is listed with the reason.

    Raises:
        InputError: There is no such folder.
    """
    if not under.is_dir():
        raise InputError(f"there is no folder {under}: name one that holds runs, like `deploy-robust runs list runs`")
    return [_line(path.parent) for path in sorted(under.rglob(FILE_NAME))]


def show_run(folder: Path) -> tuple[RunLine, CheckResult]:
    """A run judged anew by the policy that judged it last; nothing is written.

    Raises:
        RunError: There is no run.
    """
    with SqliteStore.read(folder) as store:
        require_judged(store.spec, folder)
        verdict, summary, _ = judge_store(store, policy_of(store, last=True))
    return _line(folder), CheckResult(verdict, summary, folder, {})


def prune_run(folder: Path, *, keep: int = 0) -> Pruned:
    """Drops the images of a run; measurements and reports stay.

    Args:
        folder: The run folder.
        keep: So many of the worst attacked cases keep their images, and then so do all defects.

    Raises:
        RunError: There is no run, another process works on it, or it cannot be written.
    """
    with SqliteStore.reopen(folder) as store:
        before = _megabytes(folder)
        kept: set[str] = set()
        if keep:
            require_judged(store.spec, folder)
            _, summary, _ = judge_store(store, policy_of(store, last=True))
            kept = _images_of(summary, keep)
        dropped = store.prune(kept)
        return Pruned(folder, dropped, len(store.image_names()), before, _megabytes(folder))


def prune_older(under: Path, days: float, *, keep: int = 0) -> list[Pruned]:
    """Prunes every run below a folder whose last batch is older than that many days and that still holds images.

    Raises:
        InputError: There is no such folder.
        RunError: Another process works on one of them, or it cannot be written.
    """
    old = [line for line in list_runs(under) if not line.problem and line.age_seconds > days * SECONDS_PER_DAY]
    return [prune_run(line.folder, keep=keep) for line in old if line.images]


def _line(folder: Path) -> RunLine:
    try:
        with SqliteStore.read(folder) as store:
            plan, noted = store.spec, store.noted(VERDICT, VERDICT_NOTE)
            return RunLine(
                folder,
                engine=_subject(plan),
                data=plan["pairs"]["name"],
                pairs=plan["pairs"]["count"],
                done=store.cases,
                planned=store.noted(PLANNED, int | None),
                ended=bool(store.noted(ENDED, bool)),
                verdict=None if noted is None else noted["status"],
                policy=policy_of(store, last=True).name,
                megabytes=_megabytes(folder),
                images=len(store.image_names()),
                age_seconds=max(0.0, time.time() - store.touched_at),
            )
    except RunError as error:
        return RunLine(folder, problem=str(error))


def _subject(plan: Mapping[str, Any]) -> str:
    """What a run was about: its engine, its engines, or the source of a set."""
    if "engines" in plan:
        return ", ".join(engine["name"] for engine in plan["engines"] if engine["build_of"] is None)
    return str(plan["engine"]["file"] if plan["engine"] else (plan["source"] or {}).get("name", ""))


def _images_of(summary: Summary, count: int) -> set[str]:
    return {sha256 for row in summary.cases[:count] for sha256 in _pictures(row)} | {
        row.image for row in summary.defects
    }


def _pictures(row: CaseRow) -> tuple[str, ...]:
    return row.rainy, row.attacked, row.clean_output, row.attacked_output


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob(f"{FILE_NAME}*")) / 1e6
