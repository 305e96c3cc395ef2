"""The record that travels with trained weights: enough to judge them, and to train them again."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.training.crops import PairPool
    from deploy_robust.training.trainer import Trainer


def training_record(
    trainer: Trainer,
    *,
    command: str,
    pool: PairPool,
    sources: Sequence[PairSource],
    held_out: Sequence[PairSource],
    started_from: str | None,
) -> dict[str, Any]:
    """Plain data for `deploy_robust.models.checkpoints.save_checkpoint`.

    Args:
        trainer: After its last step.
        command: What was typed.
        pool: What was learnt from.
        sources: Where the pool came from.
        held_out: Where the validation pairs came from.
        started_from: Hash of the weights that training began with; None for fresh ones.
    """
    last = trainer.curve[-1].score if trainer.curve else None
    return {
        "command": command,
        "plan": trainer.plan.to_dict(),
        "steps_done": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "started_from": started_from,
        "data": {"sha256": pool.digest, "pairs": len(pool), "sources": [_plain(source.identity) for source in sources]},
        "validation": {
            "sources": [_plain(source.identity) for source in held_out],
            "pairs": len(trainer.held_out),
            "protocol": "PSNR of RGB, 8-bit rounding, 8 pixels shaved, mean over images",
            "input_psnr": round(last.input_psnr, 4) if last else None,
            "output_psnr": round(last.output_psnr, 4) if last else None,
        },
        "curve": [
            {"step": p.step, "output_psnr": round(p.score.output_psnr, 4), "seconds": round(p.seconds, 1)}
            | ({} if p.score.attacked_psnr is None else {"attacked_psnr": round(p.score.attacked_psnr, 4)})
            for p in trainer.curve
        ],
        "device": trainer.device,
        "threads": torch.get_num_threads(),
        "versions": {
            "deploy-robust": _version("deploy-robust"),
            "torch": torch.__version__,
            "numpy": _version("numpy"),
            "python": platform.python_version(),
        },
    }


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    return dict(identity)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
