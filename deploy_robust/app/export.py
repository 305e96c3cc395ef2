"""The use case `export`: a trained network to artefacts, each verified before it gets its name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.app.exporting.images import Images
from deploy_robust.app.exporting.job import ExportedArtefact, Job
from deploy_robust.app.exporting.wanted import ONNX, everything, wanted
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.artefact.exporter import ExportSettings
from deploy_robust.artefact.files import make_folder
from deploy_robust.artefact.sweep import swept
from deploy_robust.errors import EnvironmentProblem, ExportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy_robust.artefact.exporter import CalibrationMethod

__all__ = ["ExportedArtefact", "export"]

_SCRATCH = ".export-"
"""How the names of folders begin in which steps to an artefact are made."""


def export(
    out: Path,
    *,
    checkpoint: str | Path | None = None,
    model: str | None = None,
    preset: str | None = None,
    precisions: Sequence[str] = ("fp32", "int8"),
    targets: Sequence[str] = (ONNX,),
    pairs: PairsRequest | None = None,
    calibration_count: int = 16,
    method: CalibrationMethod = "minmax",
    settings: ExportSettings | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    on_refusal: Callable[[str, str], None] | None = None,
) -> list[ExportedArtefact]:
    """Exports a network to one artefact per precision and target, a manifest beside each, the weights beside them all.

    Parity is measured through the Restorer on rainy images that were not calibrated on, at three sizes that were not
    the example's: against the network (*conversion*) and against the literal reading of the artefact's own graph
    (*fidelity*). Where the source has fewer than nine images, the same ones serve for both. The graph that an engine
    file was built from is kept beside it.

    Args:
        out: Folder for the artefacts; made if needed.
        checkpoint: Weights file, or the name of shipped weights.
        model: Network in the registry; needed for an official ``.pth`` file. Alone, it names shipped weights.
        preset: Its preset, for an official ``.pth`` file.
        precisions: Names of graph exporters; empty makes everything that can be made here.
        targets: What is to run the artefacts: ``onnx``, or runtimes with files of their own.
        pairs: Where rainy images come from; None takes embedded scenes of the calibration split.
        calibration_count: Images to calibrate on at most.
        method: How ranges are drawn from calibration images.
        settings: What else may be chosen.
        on_step: Told in a few words what is being done.
        on_refusal: Told of an artefact that cannot be made, and why; the others are still made. None raises instead.

    Raises:
        ExportError: A network that cannot be exported, or broken parity; that artefact is not left behind.
        CheckpointError: The weights cannot be used.
        UsageError: An exporter is unknown, or options contradict each other.
        InputError: The folder cannot be written, or there are no usable images.
        EnvironmentProblem: A library is missing.
    """
    from deploy_robust.models.checkpoints import load_any

    weights = checkpoint if checkpoint is not None else model
    if weights is None:
        raise UsageError("an export needs weights: give --checkpoint FILE, or the name of shipped weights")
    if calibration_count < 1:
        raise UsageError(f"calibration needs at least one image (got {calibration_count})")
    things = wanted(precisions, targets) if precisions else everything(on_refusal)
    network, info = load_any(weights, name=model if checkpoint is not None else None, preset=preset)
    on_step("reading images")
    images = Images.read(pairs or PairsRequest(split="calibration"), calibration_count)
    make_folder(out)
    with swept(out, f"{_SCRATCH}*"), tempfile.TemporaryDirectory(dir=out, prefix=_SCRATCH) as folder:
        network = network.eval().requires_grad_(False)
        job = Job(network, info, images, method, settings or ExportSettings(), out, Path(folder), on_step)
        for thing in things:
            try:
                job.make(thing, keep=True)
            except (ExportError, EnvironmentProblem) as error:
                if on_refusal is None:
                    raise
                on_refusal(f"{thing.exporter.target} {thing.name}", str(error))
        return job.kept
