"""Use case: train a vision network on embedded scenes and write its weights with the record of how they came about."""

from __future__ import annotations

import platform
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.training.trainer import Ending
    from deploy_robust.training.vision.samples import LabelledPool
    from deploy_robust.training.vision.trainer import VisionPlan, VisionStep, VisionTrainer, VisionValidated


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTraining:
    """One training.

    Attributes:
        name: Of the network, in the registry of vision networks.
        preset: Its preset.
        plan: Steps, batch, rate, seed.
        out: Weights to write, ``.safetensors``; the state lives in a folder beside it.
        scenes: Embedded scenes to learn from, in equal parts of each size.
        sizes: Sides of the scenes, pixels.
        held_out: Scenes of the validation split, of the largest size.
        validate_every: Steps between validations.
        threads: Threads on the CPU; None leaves them.
        max_minutes: Length of this slice; None trains to the end.
        restart: Throw away the state of an earlier call.
        command: What was typed, for the record.
    """

    name: str
    preset: str | None
    plan: VisionPlan
    out: Path
    scenes: int = 600
    sizes: tuple[int, ...] = (64, 96, 128)
    held_out: int = 24
    validate_every: int = 500
    threads: int | None = None
    max_minutes: float | None = None
    restart: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTrained:
    """How a call ended.

    Attributes:
        ending: ``finished``, ``out of time`` or ``interrupted``; the same call goes on in the last two cases.
        step: Steps done.
        curve: Validations.
        weights: What was written; None unless finished.
    """

    ending: Ending
    step: int
    curve: Sequence[VisionValidated] = field(default_factory=list)
    weights: CheckpointInfo | None


def train_vision(
    request: VisionTraining,
    *,
    on_pair: Callable[[int, int], None] = lambda _done, _total: None,
    on_event: Callable[[VisionStep | VisionValidated], None] = lambda _event: None,
    stop: Callable[[], bool] = lambda: False,
) -> VisionTrained:
    """Trains a network, or goes on with a training that an earlier call of the same request began.

    Args:
        request: What to train, on what.
        on_pair: Called with (scenes drawn, scenes in all).
        on_event: Called after each step and each validation.
        stop: Asked between steps whether to stop.

    Raises:
        UsageError: A name or an option is wrong.
        InputError: The output cannot be written.
        RunError: The state belongs to another training or is damaged, or the loss is not finite.
    """
    import torch

    from deploy_robust.data.scenes import SceneSource
    from deploy_robust.models.vision.registry import create_vision, save_vision
    from deploy_robust.training.vision.samples import LabelledPool
    from deploy_robust.training.vision.trainer import VisionTrainer

    if request.out.suffix != ".safetensors":
        raise UsageError(f"weights are written as .safetensors (got {request.out.name!r}): change --out")
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.plan.seed)
        network = create_vision(request.name, request.preset)
    seed, each = request.plan.seed, -(-request.scenes // len(request.sizes))
    # A seed of its own for each size: the layout of a scene does not depend on its size.
    sources = [
        SceneSource(each, seed=seed + number, size=(side, side), split="train")
        for number, side in enumerate(request.sizes)
    ]
    largest = max(request.sizes)
    held_out = SceneSource(request.held_out, seed=seed, size=(largest, largest), split="validation")
    pool = LabelledPool.of(sources, on_pair)
    folder = request.out.with_suffix(".state")
    if request.restart and folder.exists():
        shutil.rmtree(folder)
    trainer = VisionTrainer(
        network,
        request.plan,
        pool,
        LabelledPool.of([held_out]),
        folder,
        validate_every=request.validate_every,
    )
    trainer.resume()
    minutes = float("inf") if request.max_minutes is None else request.max_minutes
    ending = trainer.run(on_event, max_minutes=minutes, stop=stop)
    weights = None
    if ending == "finished":
        weights = save_vision(request.out, trainer.result, _record(trainer, request, pool, sources, held_out))
    return VisionTrained(ending=ending, step=trainer.step, curve=trainer.curve, weights=weights)


def _record(
    trainer: VisionTrainer,
    request: VisionTraining,
    pool: LabelledPool,
    sources: Sequence[PairSource],
    held_out: PairSource,
) -> dict[str, Any]:
    """Enough to judge the weights, and to train them again."""
    import numpy as np
    import torch

    return {
        "command": request.command,
        "plan": asdict(trainer.plan),
        "steps_done": trainer.step,
        "cpu_seconds": round(trainer.seconds, 1),
        "data": {"sha256": pool.digest, "pairs": len(pool), "sources": [dict(source.identity) for source in sources]},
        "validation": {"source": dict(held_out.identity), "protocol": "all images taken together"},
        "curve": [
            {
                "step": point.step,
                **{key: _rounded(score) for key, score in asdict(point.score).items()},
                "cpu_seconds": round(point.seconds, 1),
            }
            for point in trainer.curve
        ],
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }


def _rounded(score: dict[str, float]) -> dict[str, float | None]:
    return {name: round(value, 4) if value == value else None for name, value in score.items()}
