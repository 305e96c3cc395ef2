"""The literal twin of an engine: its own graph, read with the graph's own arithmetic, and with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.app.networks import Opened, open_graph
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.app.networks import EngineRequest
    from deploy_robust.app.recorded import RecordedRequest


def open_twin(request: EngineRequest | RecordedRequest, engine: Opened, device: str) -> Opened | str:
    """Opens the literal reading of the graph that an engine was made from, or says why there is none.

    An ONNX file is its own graph. A plan names the ONNX graph it was built from in its manifest; one of another
    precision than the artefact's, from which that was quantised on the way, does not say what the artefact computes.

    Args:
        request: The engine under test.
        engine: The same, opened; the twin takes over its I/O description.
        device: Torch device string on which the twin runs.

    Returns:
        The twin, or one line that says why there is none.

    Raises:
        ArtefactError: The manifest names a graph, and another file lies there.
    """
    io = engine.graph_io or engine.restorer.io
    if request.path is None:
        return "the artefact that ran on the target is not at hand"
    if io.dtype == "uint8":
        return "the engine takes 8-bit integers, through which no gradient passes"
    graph = request.path if request.path.suffix.lower() == ".onnx" else _graph_beside(request.path)
    if graph is None:
        return "no ONNX graph is known from which the engine was made"
    if isinstance(graph, str):
        return graph
    try:
        return open_graph(graph, device, io)
    except (ArtefactError, EngineDefect, EnvironmentProblem, UsageError) as error:
        return f"the graph cannot be read literally: {error}"


def _graph_beside(path: Path) -> Path | str | None:
    """The ONNX graph that a manifest names and that lies beside the artefact, or why it is no twin."""
    from deploy_robust.artefact.hashing import identity_of
    from deploy_robust.artefact.manifest import read_manifest
    from deploy_robust.artefact.onnx_graph import inspect
    from deploy_robust.artefact.side_files import within

    manifest = read_manifest(path)
    if manifest is None or manifest.graph is None:
        return None
    graph = within(path.parent, manifest.graph.file, path)
    if not graph.is_file():
        return None
    if identity_of(graph) != manifest.graph.sha256:
        raise ArtefactError(
            f"{graph} is not the graph that {path} was made from (another hash than in its manifest): "
            "export the engine again, or put the right file back"
        )
    if (precision := inspect(graph).precision) != manifest.precision:
        return f"the engine was made {manifest.precision} from {graph.name}, which is {precision}"
    return graph
