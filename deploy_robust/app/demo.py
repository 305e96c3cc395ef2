"""The use case `demo`: the whole path on embedded data, from shipped weights to a verdict about an INT8 engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.app.check import CheckRequest, check
from deploy_robust.app.export import ExportedArtefact, export
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.engine import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.judge import CheckResult

WEIGHTS = "prenet-small"
SCENES = 24
"""As many as the default policy needs to pass anything."""
SIZE = (80, 80)
"""Small enough for a few minutes on two cores, large enough for streets to be streets."""


def demo(
    out: Path,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> tuple[list[ExportedArtefact], CheckResult]:
    """Exports the shipped network to FP32 and INT8, and checks the INT8 engine on embedded scenes.

    Nothing is staged: the verdict is what the default policy says of the engine.

    Args:
        out: Folder for engines and run; an interrupted demo goes on there.
        on_step: Told what is going on, in words.
        on_progress: Called with the number of cases done and the number planned.
    """
    artefacts = export(
        out / "engines",
        checkpoint=WEIGHTS,
        precisions=("fp32", "int8"),
        pairs=PairsRequest(split="calibration", size=SIZE),
        on_step=on_step,
    )
    engine = next(artefact.path for artefact in artefacts if artefact.manifest.precision == "int8")
    on_step(f"attacking {engine.name} on {SCENES} scenes of {SIZE[0]}x{SIZE[1]}")
    result = check(
        CheckRequest(
            engine=EngineRequest(engine, EngineOptions()),
            out=out / "run",
            pairs=PairsRequest(limit=SCENES, size=SIZE),
        ),
        on_progress=on_progress,
    )
    return artefacts, result
