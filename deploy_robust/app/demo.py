"""The use case `demo`: the whole path on embedded data, for two networks that differ in how they were trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.app.check import CheckRequest, check
from deploy_robust.app.export import ExportedArtefact, export
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.engine import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deploy_robust.app.judge import CheckResult

TWINS = {"plain": "prenet-small", "robust": "prenet-small-robust"}
"""Shipped weights of one architecture: trained on rain alone, and trained on against an adversary."""

SCENES = 24
"""As many as the default policy needs to pass anything."""
SIZE = (64, 64)
"""Small, since the two checks together take about eight minutes of one core."""
THREADS = 1
"""Images of this size are too small to share: a second thread mostly waits, and spends a core on it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one twin.

    Attributes:
        name: ``plain`` or ``robust``.
        folder: Where its engines lie.
        artefacts: FP32 and INT8.
        result: The check of the INT8 engine.
    """

    name: str
    folder: Path
    artefacts: list[ExportedArtefact]
    result: CheckResult


def demo(
    out: Path,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Iterator[Shown]:
    """Exports both twins to FP32 and INT8, and checks the INT8 engines on the same embedded scenes.

    Nothing is staged: the verdicts are what the default policy says of the engines.

    Args:
        out: Folder for engines and runs; an interrupted demo goes on there.
        on_step: Told what is going on, in words.
        on_progress: Called with the number of cases of a check that are done and the number planned.
    """
    for name, weights in TWINS.items():
        folder = out / name / "engines"
        artefacts = export(
            folder,
            checkpoint=weights,
            precisions=("fp32", "int8"),
            pairs=PairsRequest(split="calibration", size=SIZE),
            on_step=on_step,
        )
        engine = next(artefact.path for artefact in artefacts if artefact.manifest.precision == "int8")
        on_step(f"attacking the {name} twin on {SCENES} scenes of {SIZE[0]}x{SIZE[1]}")
        result = check(
            CheckRequest(
                engine=EngineRequest(engine, EngineOptions(threads=THREADS)),
                out=out / name / "run",
                pairs=PairsRequest(limit=SCENES, size=SIZE),
                threads=THREADS,
            ),
            on_progress=on_progress,
        )
        yield Shown(name, folder, artefacts, result)
