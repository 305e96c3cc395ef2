"""The request of a check, kept beside its run so that a case can be run again.

Paths are kept relative to the run folder: a tree that is moved as a whole stays whole, and no absolute path travels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from annotated_types import Gt, MinLen

from deploy_robust.app.networks import EngineRequest, SourceRequest
from deploy_robust.app.pairs import PHOTOS, SCENES, PairsRequest
from deploy_robust.app.recorded import RecordedRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.boundary import Holding, MalformedError, validated
from deploy_robust.engine import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass(frozen=True, slots=True)
class RequestNote:
    """A request as the store keeps it; see `to_note`.

    Attributes:
        engine: Path or outputs, name of the runtime, and `EngineOptions`.
        source: A `SourceRequest`, and which of its fields are files.
        pairs: What was attacked.
        timeout: Seconds that one call of an engine may take.
        downstream: Networks that look at the outputs, each a file or a name.
    """

    engine: Annotated[Mapping[str, Any], Holding({"outputs": str, "precision": str | None}, path=str | None)]
    source: Annotated[Mapping[str, Any], Holding(files=list[Literal["what", "checkpoint"]])]
    pairs: PairsRequest
    timeout: Annotated[float, Gt(0)]
    downstream: tuple[Annotated[Mapping[Literal["file", "name"], str], MinLen(1)], ...] = ()


def from_note(
    data: Any, plan: Mapping[str, Any], out: Path
) -> tuple[EngineRequest | RecordedRequest, SourceRequest, PairsRequest, float, tuple[str, ...]]:
    """Inverse of `to_note`: engine, source, pairs, seconds for a call, and downstream networks.

    Args:
        data: What was kept.
        plan: The run's plan, which holds the I/O description that was in force.
        out: The run folder, where it lies now.

    Raises:
        MalformedError: It is no request.
    """
    note = validated(RequestNote, data)
    source = dict(note.source)
    files = {name: _there(name, source, out) for name in source.pop("files")}
    pairs = note.pairs
    if pairs.what not in (SCENES, PHOTOS):
        pairs = replace(pairs, what=str(_seen_from(pairs.what, out)))
    if pairs.labels is not None:
        pairs = replace(pairs, labels=str(_seen_from(pairs.labels, out)))
    return (
        _engine_request(note.engine, plan, out),
        validated(SourceRequest, {**source, **files}),
        pairs,
        note.timeout,
        tuple(str(_seen_from(each["file"], out)) if "file" in each else each["name"] for each in note.downstream),
    )


def to_files(names: Sequence[str], out: Path) -> list[dict[str, str]]:
    """Names that may be files, as plain data: files are seen from the run folder."""
    return [{"file": _relative(Path(name), out)} if Path(name).is_file() else {"name": name} for name in names]


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
        "precision": options.precision,
    }


def _engine_request(note: Mapping[str, Any], plan: Mapping[str, Any], out: Path) -> EngineRequest | RecordedRequest:
    options = dict(note)
    named = options.pop("path")
    path = None if named is None else _seen_from(named, out)
    stored = (plan.get("engine") or {}).get("io", {})
    io = validated(IODescription, stored)
    fields = {name: getattr(io, name) for name in stored}
    if "outputs" in options:
        return RecordedRequest(_seen_from(options["outputs"], out), path, options.get("precision"), fields)
    if path is None:
        raise MalformedError("is not usable: its request names no engine")
    kind = validated(cast("Any", str | None), options.pop("kind", None))
    return EngineRequest(path, validated(EngineOptions, options), fields, kind)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.absolute(), out.absolute())


def _there(name: str, source: Mapping[str, Any], out: Path) -> str:
    return str(_seen_from(validated(str, source.get(name)), out))


def _seen_from(relative: str, out: Path) -> Path:
    if "\0" in relative:
        raise MalformedError("is not usable: a path of its request holds a null character")
    return Path(os.path.relpath(out.absolute() / relative))
