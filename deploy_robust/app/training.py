"""What all use cases that train have in common: a call is one slice of a training that stands in a folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from deploy_robust.errors import UsageError
from deploy_robust.freed_memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.training.loop import Ending, StepDone, TrainingLoop, Validated

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRequest:
    """Where a training stands, and how far this call takes it.

    Attributes:
        out: Weights file to write, ``.safetensors``; state and log live in a folder beside it.
        threads: Threads on the CPU; None leaves them. A training goes on bit for bit only with the same number.
        max_minutes: Length of this slice; None trains to the end.
        restart: Throw away the state of an earlier call.
        command: What was typed, for the record.
    """

    out: Path
    threads: int | None = None
    max_minutes: float | None = None
    restart: bool = False
    command: str = ""

    @property
    def folder(self) -> Path:
        """Where state and log live."""
        return self.out.with_suffix(".state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher(Generic[S]):
    """Who is told what happens.

    Attributes:
        on_pair: (pairs drawn, pairs in all).
        on_event: Each step and each validation.
        on_note: A message about the state that was found.
        stop: Asked between steps whether to stop.
    """

    on_pair: Callable[[int, int], None] = lambda _done, _total: None
    on_event: Callable[[StepDone | Validated[S]], None] = lambda _event: None
    on_note: Callable[[str], None] = lambda _note: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult(Generic[S]):
    """How a call ended.

    Attributes:
        ending: ``finished``, ``out of time`` or ``interrupted``; the same call goes on in the last two cases.
        step: Steps done.
        steps: Steps in all.
        curve: Validations.
        weights: What was written; None unless finished.
        log: One JSON line for each step and validation.
    """

    ending: Ending
    step: int
    steps: int
    curve: Sequence[Validated[S]] = field(default_factory=list)
    weights: CheckpointInfo | None
    log: Path


def prepare(request: SliceRequest) -> None:
    """Checks what can be checked before pairs are drawn, and sets threads and allocator of this process.

    Raises:
        UsageError: The output has another suffix than its format.
    """
    import torch

    if request.out.suffix != ".safetensors":
        raise UsageError(f"weights are written as .safetensors (got {request.out.name!r}): change --out")
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    keep_freed_memory()


def take_up(trainer: TrainingLoop[S], request: SliceRequest, watcher: Watcher[S]) -> None:
    """Takes up the state of an earlier call, if there is one and it is wanted.

    Raises:
        RunError: The state belongs to another training, or every state is damaged.
    """
    if request.restart and trainer.folder.exists():
        shutil.rmtree(trainer.folder)
    if trainer.resume():
        watcher.on_note(f"going on from step {trainer.step} of {trainer.steps} in {trainer.folder}")
    for note in trainer.notes:
        watcher.on_note(note)


def run_slice(
    trainer: TrainingLoop[S],
    request: SliceRequest,
    watcher: Watcher[S],
    save: Callable[[], CheckpointInfo],
) -> TrainingResult[S]:
    """Trains for one slice.

    Args:
        trainer: After `take_up`.
        request: How long.
        watcher: Who is told.
        save: Writes the weights, when all steps are done.

    Raises:
        RunError: The loss is not finite; the last saved state stays.
    """
    from deploy_robust.training.loop import LOG

    minutes = float("inf") if request.max_minutes is None else request.max_minutes
    ending = trainer.run(watcher.on_event, max_minutes=minutes, stop=watcher.stop)
    return TrainingResult(
        ending=ending,
        step=trainer.step,
        steps=trainer.steps,
        curve=trainer.curve,
        weights=save() if ending == "finished" else None,
        log=trainer.folder / LOG,
    )
