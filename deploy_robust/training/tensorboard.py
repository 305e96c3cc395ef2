"""A training's curves for TensorBoard, beside the JSON lines that the trainer keeps itself."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import EnvironmentProblem
from deploy_robust.training.loop import StepDone

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from deploy_robust.training.trainer import Event

_FLUSH_SECONDS = 10
"""What a killed process can lose of the curves; the JSON lines lose nothing."""


def check_tensorboard() -> None:
    """Whether curves can be written, asked before minutes of drawing and training.

    Raises:
        EnvironmentProblem: The package is missing.
    """
    _writer_class()


class TensorBoardLog:
    """Writes every step and every validation as scalars; a context manager.

    ``training/loss``, ``training/rate``, ``training/term/NAME`` for each term before its weight, and
    ``validation/input_psnr``, ``validation/output_psnr`` and, where validations attack, ``validation/attacked_psnr``.

    Args:
        folder: What `tensorboard --logdir` is given; made if missing.
        done: Steps that the training has done already: curves of later ones, from a run that was cut off, are dropped.

    Raises:
        EnvironmentProblem: The package is missing.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._writer = _writer_class()(str(folder), purge_step=done + 1, flush_secs=_FLUSH_SECONDS)

    def __call__(self, event: Event) -> None:
        """Writes one event."""
        if isinstance(event, StepDone):
            scalars = {"training/loss": event.loss, "training/rate": event.rate}
            scalars |= {f"training/term/{name}": value for name, value in event.terms.items()}
        else:
            scores = asdict(event.score)
            scalars = {f"validation/{name}": value for name, value in scores.items() if value is not None}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, event.step)

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def _writer_class() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise EnvironmentProblem(
            "curves for TensorBoard need the package tensorboard: pip install 'deploy-robust[tensorboard]', "
            "or leave --tensorboard out (the JSON lines are written in any case)"
        ) from error
