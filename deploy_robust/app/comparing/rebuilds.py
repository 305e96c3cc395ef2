"""Builds of an engine: the same graph built again, or the same file opened again where there is nothing to build."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen

from deploy_robust.app.comparing.requests import NamedEngine
from deploy_robust.app.pairs import SCENES, PairsRequest
from deploy_robust.artefact.files import write_bytes
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.boundary import Holding, MalformedError, parse_json, read_text, validated
from deploy_robust.errors import DeployRobustError, ExportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deploy_robust.artefact.manifest import Manifest

REOPENED = "the same file, opened anew"
RECALIBRATED = "exported again, each time calibrated on scenes of its own"
REBUILT = "built again from the same network, with the default settings of its exporter"

_RECIPE = "recipe.json"

RECIPE = Annotated[Mapping[str, Any], Holding(recipe=Mapping[str, Any], artefact=Annotated[str, MinLen(1)])]
"""What that file holds: how an artefact was made, and its name."""


def built_again(
    engines: Sequence[NamedEngine], count: int, folder: Path, on_step: Callable[[str], None]
) -> tuple[NamedEngine, ...]:
    """The engines, each followed by its other builds.

    An artefact that was calibrated on embedded scenes is exported again on scenes of other seeds, and one that a
    builder made (a plan, an OpenVINO model) is built again with the same settings. Any other file, whose export gives
    the same bytes every time or whose calibration images are not at hand, is opened anew: what differs then is the
    runtime's doing. Artefacts stay in the folder, so that an interrupted comparison goes on with the same ones.

    Args:
        engines: The engines.
        count: Builds of each, the given file included.
        folder: Where artefacts are made.
        on_step: Told what is being built.

    Raises:
        DeployRobustError: A build failed; the message says which.
    """
    if count == 1:
        return tuple(engines)
    found: list[NamedEngine] = []
    for engine in engines:
        found.append(engine)
        manifest = read_manifest(engine.request.path) if engine.request.path.is_file() else None
        how = _how(manifest)
        for number in range(2, count + 1):
            name = f"{engine.name} #{number}"
            request = engine.request
            if how != REOPENED and manifest is not None:
                on_step(f"building {name}")
                request = replace(request, path=_built(engine, manifest, number, folder))
            found.append(NamedEngine(name, request, engine.name, how))
    return tuple(found)


def _how(manifest: Manifest | None) -> str:
    from deploy_robust.app.exporting.wanted import ONNX
    from deploy_robust.app.registries import exporter

    if manifest is None or manifest.source is None:
        return REOPENED
    try:
        made_by = exporter(manifest.exporter)
    except DeployRobustError:
        return REOPENED
    if manifest.calibration is not None:
        return RECALIBRATED if manifest.calibration.source.get("source") == SCENES else REOPENED
    return REOPENED if made_by.target == ONNX else REBUILT


def _noted(note: Path) -> Any:
    """What a build noted of itself; None where there is no note, or none that can be read: it is built again."""
    if not note.is_file():
        return None
    try:
        return validated(RECIPE, parse_json(read_text(note)))
    except MalformedError:
        return None


def _built(engine: NamedEngine, manifest: Manifest, number: int, folder: Path) -> Path:
    """The artefact of one build; the one that lies there already, if it was made in the same way."""
    from deploy_robust.app.export import export
    from deploy_robust.app.registries import exporter

    path = engine.request.path
    made_by = exporter(manifest.exporter)
    recipe = {"of": manifest.artefact.sha256, "number": number, "created_by": manifest.created_by}
    home = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', engine.name)}-{manifest.artefact.sha256[:8]}-{number}"
    note = home / _RECIPE
    kept = _noted(note)
    if kept is not None and kept["recipe"] == recipe:
        artefact = home / str(kept["artefact"])
        if read_manifest(artefact) is not None:
            return artefact
    if manifest.source is None:
        raise UsageError(f"{path} names no weights in its manifest: it cannot be built again")
    calibration = manifest.calibration
    settings: dict[str, Any] = {}
    if calibration is not None:
        facts = calibration.source
        size = int(facts["height"]), int(facts["width"])
        pairs = PairsRequest(SCENES, size=size, split="calibration", seed=int(facts["seed"]) + number - 1)
        settings = {"pairs": pairs, "calibration_count": calibration.count, "method": calibration.method}
    try:
        made = export(
            home,
            checkpoint=path.parent / manifest.source.file,
            precisions=(made_by.name if made_by.precision is not None else _graph_name(path, manifest),),
            targets=(made_by.target,),
            **settings,
        )
    except ExportError as error:
        raise ExportError(f"build {number} of {engine.name} cannot be made: {error}") from error
    artefact = next(each.path for each in made if each.manifest.exporter == manifest.exporter)
    write_bytes(note, json.dumps({"recipe": recipe, "artefact": artefact.name}).encode())
    return artefact


def _graph_name(path: Path, manifest: Manifest) -> str:
    """Name of the exporter that made the graph behind an engine; the target's usual one where that is not known."""
    graph = None if manifest.graph is None else read_manifest(path.parent / manifest.graph.file)
    return manifest.precision if graph is None else graph.exporter
