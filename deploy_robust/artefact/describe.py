"""The I/O description of any artefact: what the user said, over its manifest, over what the file itself shows."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.artefact.onnx_graph import inspect

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def describe(path: Path, overrides: Mapping[str, Any] | None = None) -> IODescription:
    """The I/O description of an artefact.

    Args:
        path: The artefact.
        overrides: Fields of `IODescription` that the user gave; they win over everything else.

    Raises:
        ArtefactError: File, manifest and overrides contradict each other, or one is damaged.
        UsageError: An override is not usable.
    """
    manifest = read_manifest(path)
    facts = inspect(path) if path.suffix.lower() == ".onnx" else None
    if manifest is not None:
        if facts is not None:
            facts.claimed(manifest.precision, f"the manifest of {path}")
        io = manifest.io
    elif facts is not None:
        io = facts.described()
    else:
        io = IODescription()
    io = merge(io, overrides or {})
    return io if facts is None else facts.complete(io)


def merge(io: IODescription, overrides: Mapping[str, Any]) -> IODescription:
    """`io` with some fields replaced; a uint8 input brings its range of 0 to 255 with it.

    Raises:
        UsageError: The outcome is not usable.
    """
    values = dict(overrides)
    if values.get("dtype") == "uint8":
        values.setdefault("range", (0.0, 255.0))
    return replace(io, **values)


FIELDS = tuple(f.name for f in dataclasses.fields(IODescription))
"""Names of the fields that an override may give."""
