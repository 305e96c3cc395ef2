"""Engines and sources by what a user types, opened as restorers with what is known of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.app.crafting import Crafting
from deploy_robust.errors import (
    ArtefactError,
    CheckpointError,
    DeployRobustError,
    EngineDefect,
    EnvironmentProblem,
    UsageError,
)

if TYPE_CHECKING:
    from torch import nn

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.engine import EngineOptions
    from deploy_robust.restorer import Restorer

LITERAL = "literal"
"""Name of the engine kind that reads ONNX graphs with gradients."""

SURROGATE = "prenet-small"
"""Shipped weights on which attacks are crafted when nothing is known of an engine's source."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The engine under test.

    Attributes:
        path: Its file.
        options: Device, provider, threads.
        io: Fields of the I/O description that the user gave, over the manifest's.
        kind: Name of the runtime; None picks it by the file's suffix.
    """

    path: Path
    options: EngineOptions
    io: Mapping[str, Any] = field(default_factory=dict)
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """The differentiable network that attacks are crafted on.

    Attributes:
        what: Shipped weights by name, a weights file, an ONNX graph, or ``package.module:factory``; None follows the
            engine's manifest.
        checkpoint: Weights for the module that the factory returns; a ``.safetensors`` or a plain state dict.
        model: Zoo name of the network, for an official ``.pth`` file.
        preset: Its preset, likewise.
        device: Torch device string.
        crafting: How attacks run it.
    """

    what: str | None = None
    checkpoint: Path | None = None
    model: str | None = None
    preset: str | None = None
    device: str = "cpu"
    crafting: Crafting = field(default_factory=Crafting)


@dataclass(frozen=True, slots=True)
class Opened:
    """A network that is ready to run.

    Attributes:
        restorer: The network behind the one wrapper.
        facts: What is known of it, as plain data for the run's plan.
        twin: For a source: whether it is the network that the engine was made from, rather than a surrogate.
        graph_io: How the artefact itself takes and gives images, where the restorer is not that artefact.
    """

    restorer: Restorer
    facts: Mapping[str, Any]
    twin: bool = True
    graph_io: IODescription | None = None


def open_engine(request: EngineRequest) -> Opened:
    """Opens the engine under test.

    Raises:
        ArtefactError: The file is missing, damaged or of another kind.
        EnvironmentProblem: Its runtime, provider or device is not there.
        UsageError: The precision that the user states is not the engine's.
    """
    from deploy_robust.app.registries import engine_kind, engine_kind_for
    from deploy_robust.artefact.describe import describe
    from deploy_robust.artefact.hashing import identity_of, require_unchanged
    from deploy_robust.artefact.manifest import read_manifest
    from deploy_robust.restorer import Restorer

    path = request.path
    if not path.is_file():
        raise ArtefactError(f"there is no engine at {path}: give the path of a file, like engines/prenet-int8.onnx")
    kind = engine_kind(request.kind) if request.kind else engine_kind_for(path)
    identity = identity_of(path)
    io = describe(path, request.io)
    try:
        engine, io = kind.open(path, replace(request.options, io=io))
    except DeployRobustError:
        raise
    except Exception as error:  # any package may offer an engine
        raise EnvironmentProblem(
            f"the engine {kind.name} failed to open {path} ({type(error).__name__}: {error}): "
            "repair the package that offers it, or try the file with the tool that made it"
        ) from error
    stated, found = request.options.precision, engine.capabilities.precision
    if stated not in (None, found):
        raise UsageError(f"--precision {stated} contradicts {path}, which computes in {found}: leave it out")
    manifest = read_manifest(path)
    require_unchanged(path, identity)
    facts = {
        "file": path.name,
        "sha256": identity,
        "kind": kind.name,
        "capabilities": engine.capabilities.to_dict(),
        "io": io.to_dict(),
        "manifest": None if manifest is None else manifest.to_dict(),
    }
    return Opened(Restorer(engine, io), facts)


def open_source(request: SourceRequest, engine_path: Path | None = None, literal: Opened | None = None) -> Opened:
    """Opens the network that attacks are crafted on.

    Without a request the engine's manifest names the weights beside it. Without those the engine's own graph serves,
    read literally; and where that cannot be read, the shipped surrogate.

    Args:
        request: What the user asked for.
        engine_path: The engine, whose manifest may name a source.
        literal: The literal reading of the engine's graph; None where there is none.

    Raises:
        CheckpointError: The weights are missing or do not fit.
        UsageError: The name, the factory or the combination of options is not usable.
    """
    what: str | Path | None = request.what
    if what is not None and _is_factory(str(what)):
        return _from_factory(str(what), request)
    if request.checkpoint is not None:
        raise UsageError("--source-checkpoint goes with --source package.module:factory: name a weights file itself")
    if what is not None and Path(what).suffix.lower() == ".onnx":
        request.crafting.refuse("a graph is read in its own arithmetic")
        return open_graph(Path(what), request.device)
    twin = True
    if what is None and engine_path is not None:
        what = _beside(engine_path)
    if what is None and literal is not None:
        request.crafting.refuse("the engine's graph is read in its own arithmetic")
        return literal
    if what is None:
        what, twin = SURROGATE, False
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.models.checkpoints import load_any

    model, info = load_any(what, name=request.model, preset=request.preset)
    return _as_source(
        model,
        request,
        IODescription(size=model.size_rule),
        {
            "name": str(info.identity),
            "origin": info.origin if Path(info.origin).name == info.origin else Path(info.origin).name,
            "weights_sha256": info.weights_sha256,
            "official": info.official,
        },
        twin,
    )


def open_graph(path: Path, device: str, io: IODescription | None = None) -> Opened:
    """Opens an ONNX graph as a differentiable network, read literally.

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
    from deploy_robust.artefact.hashing import identity_of, require_unchanged
    from deploy_robust.engine import EngineOptions
    from deploy_robust.restorer import Restorer

    if not path.is_file():
        raise ArtefactError(f"there is no graph at {path}: give the path of an .onnx file")
    identity = identity_of(path)
    network, io = engine_kind(LITERAL).open(path, EngineOptions(device=device, io=io or describe(path, {})))
    if io.dtype == "uint8":
        raise UsageError(f"{path} takes 8-bit integers, through which no gradient passes: give the weights as --source")
    twin = Restorer(network, io)
    _probe(twin)
    require_unchanged(path, identity)
    facts = {
        "name": f"literal reading of {path.name}",
        "origin": path.name,
        "weights_sha256": identity,
        "official": False,
        "kind": LITERAL,
        "capabilities": network.capabilities.to_dict(),
    }
    return Opened(twin, facts)


def _beside(engine_path: Path) -> Path | None:
    """The source weights that the engine's manifest names, if it has one."""
    from deploy_robust.artefact.hashing import sha256_of
    from deploy_robust.artefact.manifest import read_manifest

    manifest = read_manifest(engine_path)
    if manifest is None or manifest.source is None:
        return None
    path = engine_path.parent / manifest.source.file
    if not path.is_file():
        raise CheckpointError(
            f"the manifest of {engine_path} names its source weights {path}, and they are not there: "
            "copy them beside the engine, or name a source with --source"
        )
    if not path.resolve().is_relative_to(engine_path.parent.resolve()):
        raise CheckpointError(
            f"the manifest of {engine_path} names its source weights {path.name}, a link that leads out of its folder: "
            "name them with --source, or copy them beside the engine"
        )
    if sha256_of(path) != manifest.source.sha256:
        raise CheckpointError(
            f"{path} are not the weights that {engine_path} was made from (another hash than in its manifest): "
            "export the engine again, or name a source with --source"
        )
    return path


def _is_factory(what: str) -> bool:
    module, colon, name = what.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _from_factory(what: str, request: SourceRequest) -> Opened:
    """A module from the user's own code: it takes and gives RGB in [0, 1], NCHW float32."""
    import torch

    from deploy_robust.artefact.io_description import IODescription, SizeRule
    from deploy_robust.models.weights_file import weights_sha256

    module_name, _, factory_name = what.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        module = factory()
    except Exception as error:  # the user's code may fail in any way
        raise UsageError(f"--source {what} does not give a network: {type(error).__name__}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"--source {what} gives no network but a {type(module).__name__}: return a torch.nn.Module")
    if request.checkpoint is not None:
        _load_weights(module, request.checkpoint)
    rule = getattr(module, "size_rule", SizeRule())
    facts = {
        "name": what,
        "origin": None if request.checkpoint is None else request.checkpoint.name,
        "weights_sha256": weights_sha256(module.state_dict()),
        "official": False,
    }
    return _as_source(module, request, IODescription(size=rule), facts, twin=True)


def _load_weights(module: nn.Module, path: Path) -> None:
    from deploy_robust.models.checkpoints import read_state

    try:
        module.load_state_dict(read_state(path), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the weights in {path} do not fit the network of --source: {reason}") from error


def _as_source(module: nn.Module, request: SourceRequest, io: Any, facts: dict[str, Any], twin: bool) -> Opened:
    restorer = request.crafting.open(module, request.device, io, str(facts["name"]))
    try:
        _probe(restorer)
        if restorer.draft is not None:
            _probe(restorer.draft)
    except EngineDefect as defect:
        raise UsageError(
            f"the source {facts['name']} does not map RGB images in [0, 1] to images of the same size: {defect}"
        ) from defect
    if crafting := request.crafting.to_dict():
        facts |= {"crafting": crafting}
    kind = "twin" if twin else "surrogate"
    return Opened(restorer, {**facts, "kind": kind, "capabilities": restorer.capabilities.to_dict()}, twin)


def _probe(restorer: Restorer) -> None:
    """One pass over a grey image, of an odd size where any will do: a source that fails there cannot be attacked."""
    import torch

    height, width = restorer.io.size.fixed or (33, 35)
    with torch.no_grad():
        restorer(torch.full((1, 3, height, width), 0.5))
