"""Timing caches on disk: one file that begins with what it is good for, because TensorRT trusts what it is given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from deploy_robust.artefact.files import write_bytes
from deploy_robust.boundary import MalformedError, parse_json, validated
from deploy_robust.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.tensorrt.device import Gpu

_MAGIC = b"deploy-robust timing cache 1\n"


def key_of(version: str, gpu: Gpu) -> dict[str, str]:
    """What the times in a cache depend on."""
    return {"tensorrt": version, **gpu.to_dict()}


def read_cache(path: Path, version: str, gpu: Gpu) -> bytes:
    """The content of a cache for this TensorRT on this GPU; empty where there is no file yet.

    Raises:
        ArtefactError: The file is no timing cache of ours, or is stale: of another TensorRT, GPU or driver.
        InputError: It cannot be read.
    """
    if not path.exists():
        return b""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the timing cache {path}: {error.strerror}; check its permissions") from error
    another = "remove it, or name another file"
    head, _, rest = content.removeprefix(_MAGIC).partition(b"\n")
    try:
        if not content.startswith(_MAGIC):
            raise MalformedError("does not begin as one")
        found = validated(dict[str, str], parse_json(head))
    except MalformedError as error:
        raise ArtefactError(f"{path} is no timing cache that deploy-robust wrote ({error}): {another}") from error
    here = key_of(version, gpu)
    if stale := [
        f"{name} {found.get(name)} (here {value})" for name, value in here.items() if found.get(name) != value
    ]:
        raise ArtefactError(f"the timing cache {path} is stale: it was measured with {', '.join(stale)}: {another}")
    return rest


def write_cache(path: Path, content: bytes, version: str, gpu: Gpu) -> None:
    """Writes a cache with its key.

    Raises:
        InputError: The file cannot be written.
    """
    head = json.dumps(key_of(version, gpu), sort_keys=True).encode()
    write_bytes(path, _MAGIC + head + b"\n" + content)
