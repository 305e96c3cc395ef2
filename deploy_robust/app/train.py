"""Use case: train a network of the zoo and write its weights with the record of how they came about."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import PHOTOS, SCENES
from deploy_robust.app.training import SliceRequest, TrainingResult, Watcher, prepare, run_slice, take_up
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import PairPool
    from deploy_robust.training.plan import TrainingPlan
    from deploy_robust.training.trainer import Event
    from deploy_robust.training.validation import Score

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
class TrainingRequest(SliceRequest):
    """One training.

    Attributes:
        model: Name in the registry.
        preset: Its preset; None takes the first.
        plan: Steps, batch, loss, rate, seed.
        data: What to learn from.
        init: Weights to start from: shipped by name, or a file; None draws fresh ones from the plan's seed.
        device: Torch device string.
        tensorboard: Folder for TensorBoard's curves; None writes none.
    """

    model: str
    preset: str | None
    plan: TrainingPlan
    data: TrainingData
    init: str | None = None
    device: str = "cpu"
    tensorboard: Path | None = None


def train(request: TrainingRequest, watcher: Watcher[Score] | None = None) -> TrainingResult[Score]:
    """Trains a network, or goes on with a training that an earlier call of the same request began.

    Raises:
        UsageError: A name or an option is wrong.
        InputError: Data or weights cannot be read, or the output cannot be written.
        EnvironmentProblem: The device is not there, or TensorBoard is asked for and missing.
        RunError: The state belongs to another training or is damaged, or the loss is not finite.
    """
    from deploy_robust.models.checkpoints import save_checkpoint
    from deploy_robust.training.record import training_record
    from deploy_robust.training.tensorboard import check_tensorboard
    from deploy_robust.training.trainer import Trainer

    watcher = Watcher() if watcher is None else watcher
    prepare(request)
    _check_device(request.device)
    if request.tensorboard is not None:
        check_tensorboard()
    model, started_from = _starting_model(request)
    sources, held_out_sources, pool, held_out = _draw(request.data, watcher.on_pair)
    trainer = Trainer(model, request.plan, pool, held_out, request.folder, device=request.device)
    take_up(trainer, request, watcher)

    def save() -> CheckpointInfo:
        record = training_record(
            trainer,
            command=request.command,
            pool=pool,
            sources=sources,
            held_out=held_out_sources,
            started_from=started_from,
        )
        return save_checkpoint(request.out, trainer.result, record)

    with _told(watcher.on_event, request.tensorboard, trainer.step) as on_event:
        return run_slice(trainer, request, replace(watcher, on_event=on_event), save)


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
