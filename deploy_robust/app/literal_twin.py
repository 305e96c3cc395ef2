"""The literal twin of an engine: its own graph, read with the graph's own arithmetic, and with gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.app.networks import Opened, probe
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.app.networks import EngineRequest
    from deploy_robust.artefact.io_description import IODescription

LITERAL_KIND = "literal"


def open_twin(request: EngineRequest, engine: Opened, device: str) -> Opened | str:
    """Opens the literal reading of the graph that an engine was made from, or says why there is none.

    An ONNX file is its own graph. A plan names the ONNX graph it was built from in its manifest.

    Args:
        request: The engine under test.
        engine: The same, opened; the twin takes over its I/O description.
        device: Torch device string on which the twin runs.

    Returns:
        The twin, or one line that says why there is none.

    Raises:
        ArtefactError: The manifest names a graph, and another file lies there.
    """
    if engine.restorer.io.dtype == "uint8":
        return "the engine takes 8-bit integers, through which no gradient passes"
    graph = request.path if request.path.suffix.lower() == ".onnx" else _graph_beside(request.path)
    if graph is None:
        return "no ONNX graph is known from which the engine was made"
    try:
        return open_graph(graph, device, engine.restorer.io)
    except (ArtefactError, EngineDefect, EnvironmentProblem, UsageError) as error:
        return f"the graph cannot be read literally: {error}"


def open_graph(path: Path, device: str, io: IODescription | None = None) -> Opened:
    """Opens an ONNX graph as a differentiable network.

    Args:
        path: The graph.
        device: Torch device string.
        io: How it takes and gives images; None reads its manifest, or takes RGB in [0, 1], NCHW.

    Raises:
        ArtefactError: The file is no graph, or one that the literal reading does not cover; the node is named.
        EngineDefect: The graph does not answer an image with an image of its size.
        UsageError: It takes 8-bit integers, through which no gradient passes.
    """
    from deploy_robust.app.registries import engine_kind
    from deploy_robust.artefact.describe import describe
    from deploy_robust.artefact.hashing import sha256_of
    from deploy_robust.engine import EngineOptions
    from deploy_robust.restorer import Restorer

    if not path.is_file():
        raise ArtefactError(f"there is no graph at {path}: give the path of an .onnx file")
    network, io = engine_kind(LITERAL_KIND).open(path, EngineOptions(device=device, io=io or describe(path, {})))
    if io.dtype == "uint8":
        raise UsageError(f"{path} takes 8-bit integers, through which no gradient passes: give the weights as --source")
    twin = Restorer(network, io)
    probe(twin)
    facts = {
        "name": f"literal reading of {path.name}",
        "origin": path.name,
        "weights_sha256": sha256_of(path),
        "official": False,
        "kind": LITERAL_KIND,
        "capabilities": network.capabilities.to_dict(),
    }
    return Opened(twin, facts)


def _graph_beside(path: Path) -> Path | None:
    """The ONNX graph that a manifest names and that lies beside the artefact."""
    from deploy_robust.artefact.hashing import sha256_of
    from deploy_robust.artefact.manifest import read_manifest

    manifest = read_manifest(path)
    if manifest is None or manifest.graph is None:
        return None
    graph = path.parent / manifest.graph.file
    if not graph.is_file():
        return None
    if sha256_of(graph) != manifest.graph.sha256:
        raise ArtefactError(
            f"{graph} is not the graph that {path} was made from (another hash than in its manifest): "
            "export the engine again, or put the right file back"
        )
    return graph
