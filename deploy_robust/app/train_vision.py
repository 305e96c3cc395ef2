"""Use case: train a vision network on embedded scenes and write its weights with the record of how they came about."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.app.training import SliceRequest, TrainingResult, Watcher, prepare, run_slice, take_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.training.vision.samples import LabelledPool
    from deploy_robust.training.vision.trainer import VisionPlan, VisionTrainer
    from deploy_robust.training.vision.validation import VisionScore


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTraining(SliceRequest):
    """One training.

    Attributes:
        name: Of the network, in the registry of vision networks.
        preset: Its preset.
        plan: Steps, batch, rate, seed.
        scenes: Embedded scenes to learn from, in equal parts of each size.
        sizes: Sides of the scenes, pixels.
        held_out: Scenes of the validation split, of the largest size.
        validate_every: Steps between validations.
    """

    name: str
    preset: str | None
    plan: VisionPlan
    scenes: int = 600
    sizes: tuple[int, ...] = (64, 96, 128)
    held_out: int = 24
    validate_every: int = 500


def train_vision(request: VisionTraining, watcher: Watcher[VisionScore] | None = None) -> TrainingResult[VisionScore]:
    """Trains a network, or goes on with a training that an earlier call of the same request began.

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

    watcher = Watcher() if watcher is None else watcher
    prepare(request)
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
    pool = LabelledPool.of(sources, watcher.on_pair)
    trainer = VisionTrainer(
        network,
        request.plan,
        pool,
        LabelledPool.of([held_out]),
        request.folder,
        validate_every=request.validate_every,
    )
    take_up(trainer, request, watcher)
    return run_slice(
        trainer,
        request,
        watcher,
        lambda: save_vision(request.out, trainer.result, _record(trainer, request, pool, sources, held_out)),
    )


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
