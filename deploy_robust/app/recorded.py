"""An engine that ran elsewhere, opened by what was recorded there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.app.networks import Opened
from deploy_robust.engine import UNKNOWN
from deploy_robust.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.stored.adversarial_set import AdversarialSet

RECORDED = "recorded"
"""Kind of such an engine, for reports."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """Outputs of an engine that ran elsewhere.

    Attributes:
        outputs: Folder of the outputs.
        path: The artefact that ran there; it is read for its manifest and graph, and never run. None where it is not at
            hand.
        precision: Of the engine, where no artefact says it.
        io: Fields of the artefact's I/O description that the user gave, for its literal twin.
    """

    outputs: Path
    path: Path | None = None
    precision: str | None = None
    io: Mapping[str, Any] = field(default_factory=dict)


def open_recorded(request: RecordedRequest, stored: AdversarialSet) -> Opened:
    """Opens recorded outputs as the engine under test.

    Raises:
        ArtefactError: The artefact is missing or damaged.
        InputError: Outputs are missing, of another size, or not of the set.
        UsageError: The precision contradicts the artefact.
    """
    from deploy_robust.artefact.hashing import identity_of
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.artefact.manifest import read_manifest
    from deploy_robust.data.images import safe_text
    from deploy_robust.engines.recorded import RecordedEngine
    from deploy_robust.restorer import Restorer
    from deploy_robust.stored.outputs import RecordedOutputs

    path, graph_io = request.path, IODescription()
    manifest = None
    if path is not None:
        if not path.is_file():
            raise ArtefactError(f"there is no engine at {path}: name the artefact that ran on the target, or none")
        manifest, graph_io = read_manifest(path), _described(path, request.io)
    precision = _precision(request)
    outputs = RecordedOutputs.open(request.outputs, stored)
    engine = RecordedEngine(outputs, precision=precision)
    facts = {
        "file": safe_text(request.outputs.resolve().name) if path is None else path.name,
        "sha256": outputs.sha256 if path is None else identity_of(path),
        "kind": RECORDED,
        "capabilities": engine.capabilities.to_dict(),
        "io": graph_io.to_dict(),
        "manifest": None if manifest is None else manifest.to_dict(),
        "outputs": {
            "folder": safe_text(request.outputs.resolve().name),
            "sha256": outputs.sha256,
            "count": outputs.count,
            "form": outputs.form,
            "target": outputs.target,
            "contradictions": outputs.contradictions,
        },
    }
    return Opened(Restorer(engine), facts, graph_io=graph_io)


def _described(path: Path, io: Mapping[str, Any]) -> IODescription:
    from deploy_robust.artefact.describe import describe

    return describe(path, io)


def _precision(request: RecordedRequest) -> str:
    """What the artefact says, else what the user says."""
    from deploy_robust.artefact.manifest import read_manifest
    from deploy_robust.artefact.onnx_graph import inspect

    said = None
    if request.path is not None:
        manifest = read_manifest(request.path)
        if manifest is not None:
            said = manifest.precision
        elif request.path.suffix.lower() == ".onnx":
            said = inspect(request.path).precision
    if said is not None and request.precision not in (None, said):
        raise UsageError(
            f"--precision {request.precision} contradicts {request.path}, which is {said}: leave it out, or name the "
            "artefact that ran on the target"
        )
    return said or request.precision or UNKNOWN
