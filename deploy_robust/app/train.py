"""Use case: train a network of the zoo and write its weights with the record of how they came about."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import PHOTOS, SCENES
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import PairPool
    from deploy_robust.training.trainer import Ending, Event, TrainingPlan, Validated

PHOTO_SHARE = 7
"""Where scenes and photographs are mixed, every seventh pair is a photograph: there are few of them."""

FOLDER_SHARE = 10
"""Of a folder, the last tenth of the pairs is held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What to learn from, and what to validate on.

    Attributes:
        what: ``scenes``, ``photos``, ``scenes+photos``, or a folder with ground truth.
        pairs: How many pairs embedded sources give; they are drawn once and held in memory.
        size: (height, width) of embedded pairs.
        held_out: How many pairs to validate on: scenes of a split of their own, or the end of a folder.
        seed: Seed of embedded sources.
    """

    what: str = SCENES
    pairs: int = 448
    size: tuple[int, int] = (128, 128)
    held_out: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """One training.

    Attributes:
        model: Name in the registry.
        preset: Its preset; None takes the first.
        plan: Steps, batch, loss, rate, seed.
        data: What to learn from.
        out: Weights file to write, ``.safetensors``; state and log live in a folder beside it until it is done.
        init: Weights to start from: shipped by name, or a file; None draws fresh ones from the plan's seed.
        device: Torch device string.
        threads: Threads on the CPU; None leaves them. A training goes on bit for bit only with the same number.
        max_minutes: Length of this slice; None trains to the end.
        restart: Throw away the state of an earlier call.
        tensorboard: Folder for TensorBoard's curves; None writes none.
        command: What was typed, for the record.
    """

    model: str
    preset: str | None
    plan: TrainingPlan
    data: TrainingData
    out: Path
    init: str | None = None
    device: str = "cpu"
    threads: int | None = None
    max_minutes: float | None = None
    restart: bool = False
    tensorboard: Path | None = None
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Who is told what happens.

    Attributes:
        on_pair: (pairs drawn, pairs in all).
        on_event: Each step and each validation.
        on_note: A message about the state that was found.
        stop: Asked between steps whether to stop.
    """

    on_pair: Callable[[int, int], None] = lambda _done, _total: None
    on_event: Callable[[Event], None] = lambda _event: None
    on_note: Callable[[str], None] = lambda _note: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
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
    curve: Sequence[Validated] = field(default_factory=list)
    weights: CheckpointInfo | None
    log: Path


def train(request: TrainingRequest, watcher: Watcher | None = None) -> TrainingResult:
    """Trains a network, or goes on with a training that an earlier call of the same request began.

    Raises:
        UsageError: A name or an option is wrong.
        InputError: Data or weights cannot be read, or the output cannot be written.
        EnvironmentProblem: The device is not there, or TensorBoard is asked for and missing.
        RunError: The state belongs to another training or is damaged, or the loss is not finite.
    """
    import torch

    from deploy_robust.models.checkpoints import save_checkpoint
    from deploy_robust.training.record import training_record
    from deploy_robust.training.tensorboard import check_tensorboard
    from deploy_robust.training.trainer import LOG, Trainer

    watcher = Watcher() if watcher is None else watcher
    if request.out.suffix != ".safetensors":
        raise UsageError(f"weights are written as .safetensors (got {request.out.name!r}): change --out")
    _check_device(request.device)
    if request.tensorboard is not None:
        check_tensorboard()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    model, started_from = _starting_model(request)
    sources, held_out_sources, pool, held_out = _draw(request.data, watcher.on_pair)

    folder = request.out.with_suffix(".state")
    if request.restart and folder.exists():
        shutil.rmtree(folder)
    trainer = Trainer(model, request.plan, pool, held_out, folder, device=request.device)
    if trainer.resume():
        watcher.on_note(f"going on from step {trainer.step} of {request.plan.steps} in {folder}")
    for note in trainer.notes:
        watcher.on_note(note)
    minutes = float("inf") if request.max_minutes is None else request.max_minutes
    with _told(watcher.on_event, request.tensorboard, trainer.step) as on_event:
        ending = trainer.run(on_event, max_minutes=minutes, stop=watcher.stop)

    weights = None
    if ending == "finished":
        record = training_record(
            trainer,
            command=request.command,
            pool=pool,
            sources=sources,
            held_out=held_out_sources,
            started_from=started_from,
        )
        weights = save_checkpoint(request.out, trainer.result, record)
    return TrainingResult(
        ending=ending,
        step=trainer.step,
        steps=request.plan.steps,
        curve=trainer.curve,
        weights=weights,
        log=folder / LOG,
    )


@contextmanager
def _told(on_event: Callable[[Event], None], tensorboard: Path | None, done: int) -> Iterator[Callable[[Event], None]]:
    """Who is told of events: the caller, and TensorBoard where it is asked for."""
    from deploy_robust.training.tensorboard import TensorBoardLog

    if tensorboard is None:
        yield on_event
        return
    with TensorBoardLog(tensorboard, done) as curves:

        def both(event: Event) -> None:
            curves(event)
            on_event(event)

        yield both


def _starting_model(request: TrainingRequest) -> tuple[Derainer, str | None]:
    """The model to train, and the hash of the weights that it starts with where they are not fresh."""
    import torch

    from deploy_robust.models.checkpoints import load_any
    from deploy_robust.models.registry import MODELS

    if request.init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.plan.seed)
            return MODELS.create(request.model, request.preset), None
    model, info = load_any(request.init, name=request.model, preset=request.preset)
    if request.preset is not None and info.identity.preset != request.preset:
        raise UsageError(
            f"{request.init} holds weights of {info.identity}, not of preset {request.preset}: drop --preset"
        )
    return model, info.weights_sha256


def _draw(
    data: TrainingData, on_pair: Callable[[int, int], None]
) -> tuple[list[PairSource], list[PairSource], PairPool, PairPool]:
    """Sources to learn from and to validate on, and their pairs."""
    from deploy_robust.training.crops import PairPool

    embedded = data.what.split("+")
    if set(embedded) <= {SCENES, PHOTOS}:
        from deploy_robust.data.scenes.source import SceneSource

        sources = _embedded(embedded, data)
        unseen: list[PairSource] = [SceneSource(data.held_out, seed=data.seed, size=data.size, split="validation")]
        return sources, unseen, PairPool.of(sources, on_pair), PairPool.of(unseen)
    from deploy_robust.data.folders import FolderSource

    folder = FolderSource.open(data.what)
    if len(folder) < 2:
        raise UsageError(f"{data.what} holds one pair: training needs at least two, one of them to validate on")
    pairs = PairPool.of([folder], on_pair).pairs
    kept = max(1, min(data.held_out, len(pairs) // FOLDER_SHARE))
    return [folder], [folder], PairPool(pairs[:-kept]), PairPool(pairs[-kept:])


def _embedded(names: list[str], data: TrainingData) -> list[PairSource]:
    from deploy_robust.data.photographs import PhotoSource
    from deploy_robust.data.scenes.source import SceneSource

    photos = 0 if PHOTOS not in names else data.pairs if SCENES not in names else max(1, data.pairs // PHOTO_SHARE)
    scenes = data.pairs - photos
    sources: list[PairSource] = []
    if scenes:
        sources.append(SceneSource(scenes, seed=data.seed, size=data.size, split="train"))
    if photos:
        sources.append(PhotoSource(photos, seed=data.seed, size=data.size, split="train"))
    return sources


def _check_device(device: str) -> None:
    import torch

    from deploy_robust.errors import EnvironmentProblem

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise EnvironmentProblem(f"device {device!r} does not come up ({reason}): use --device cpu") from error
