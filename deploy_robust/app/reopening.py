"""The request of a check, kept beside its run so that a case can be run again.

Paths are kept relative to the run folder: a tree that is moved as a whole stays whole, and no absolute path travels.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.app.crafting import Crafting
from deploy_robust.app.networks import EngineRequest, SourceRequest
from deploy_robust.app.pairs import PHOTOS, SCENES, PairsRequest
from deploy_robust.app.recorded import RecordedRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTE = "request"
"""Key under which the store keeps it."""


def to_note(
    engine: EngineRequest | RecordedRequest, source: SourceRequest, pairs: PairsRequest, timeout: float, out: Path
) -> Any:
    """A request as plain data for `SqliteStore.note`; the I/O description stands in the run's plan."""
    files = {name: str(value) for name in ("what", "checkpoint") if (value := getattr(source, name)) is not None}
    return {
        "engine": _engine_note(engine, out),
        "source": {
            **asdict(source),
            **{name: _relative(Path(value), out) if Path(value).is_file() else value for name, value in files.items()},
            "files": [name for name, value in files.items() if Path(value).is_file()],
        },
        "pairs": {
            **asdict(pairs),
            "what": pairs.what if pairs.what in (SCENES, PHOTOS) else _relative(Path(pairs.what), out),
            "labels": None if pairs.labels is None else _relative(Path(pairs.labels), out),
        },
        "timeout": timeout,
    }


def from_note(
    note: Mapping[str, Any], plan: Mapping[str, Any], out: Path
) -> tuple[EngineRequest | RecordedRequest, SourceRequest, PairsRequest, float]:
    """The reverse of `to_note`.

    Args:
        note: What was kept.
        plan: The run's plan, which holds the I/O description that was in force.
        out: The run folder, where it lies now.
    """
    engine = _engine_request(note["engine"], plan, out)
    source = dict(note["source"])
    for name in source.pop("files"):
        source[name] = _there(source[name], out)
    if source["what"] is not None:
        source["what"] = str(source["what"])
    pairs: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in note["pairs"].items()
    }
    if pairs["what"] not in (SCENES, PHOTOS):
        pairs["what"] = str(_there(pairs["what"], out))
    if pairs.get("labels") is not None:
        pairs["labels"] = str(_there(pairs["labels"], out))
    return (
        engine,
        SourceRequest(**{**source, "crafting": Crafting(**source.get("crafting", {}))}),
        PairsRequest(**pairs),
        float(note["timeout"]),
    )


def to_files(names: Sequence[str], out: Path) -> list[dict[str, str]]:
    """Names that may be files, as plain data: files are seen from the run folder."""
    return [{"file": _relative(Path(name), out)} if Path(name).is_file() else {"name": name} for name in names]


def from_files(note: Sequence[Mapping[str, str]], out: Path) -> tuple[str, ...]:
    """The reverse of `to_files`."""
    return tuple(str(_there(each["file"], out)) if "file" in each else each["name"] for each in note)


def _engine_note(engine: EngineRequest | RecordedRequest, out: Path) -> dict[str, Any]:
    if isinstance(engine, RecordedRequest):
        path = None if engine.path is None else _relative(engine.path, out)
        return {"path": path, "outputs": _relative(engine.outputs, out), "precision": engine.precision}
    options = engine.options
    return {
        "path": _relative(engine.path, out),
        "kind": engine.kind,
        "device": options.device,
        "provider": options.provider,
        "threads": options.threads,
        "arithmetic": options.arithmetic,
        "compute": options.compute,
        "vouched": options.vouched,
    }


def _engine_request(note: Mapping[str, Any], plan: Mapping[str, Any], out: Path) -> EngineRequest | RecordedRequest:
    options = dict(note)
    named = options.pop("path")
    io = IODescription.from_dict(plan["engine"]["io"])
    fields = {name: getattr(io, name) for name in plan["engine"]["io"]}
    if "outputs" in options:
        path = None if named is None else _there(named, out)
        return RecordedRequest(_there(options["outputs"], out), path, options["precision"], fields)
    kind = options.pop("kind")
    return EngineRequest(_there(named, out), EngineOptions(**options), fields, kind)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.absolute(), out.absolute())


def _there(relative: str, out: Path) -> Path:
    return Path(os.path.relpath(out.absolute() / relative))
