"""Content hashes: what an artefact, a checkpoint or a data set is known by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from deploy_robust.artefact.side_files import side_files
from deploy_robust.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from pathlib import Path

BIN_HASH = ("deploy_robust", "bin_sha256")
"""Where an OpenVINO IR file of ours holds the hash of its weights, so that it refuses others."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error


def identity_of(path: Path, content: bytes | None = None) -> str:
    """What an engine is known by: a hash over every file that it reads.

    One file is known by its own SHA-256, as ``sha256sum`` shows it. Several are known by the SHA-256 of a list, a line
    ``<sha256>  <name>`` for each as ``sha256sum`` would write it: the engine's own file first and without its name (a
    renamed engine is the same one), then the others by name; of a name that is made from the engine's, the ending.

    Args:
        path: The engine's own file.
        content: Its bytes where they were read already, so that they are what is loaded; None reads them.

    Raises:
        InputError: A file cannot be read.
        ArtefactError: A file lies outside the engine's folder, or is not there.
    """
    own = sha256_of(path) if content is None else hashlib.sha256(content).hexdigest()
    names = side_files(path)
    if not names:
        return own
    named_by_itself = path.suffix.lower() == ".onnx"
    lines = [f"{own}  "]
    for name in names:
        shown = name if named_by_itself else name.removeprefix(path.stem)
        lines.append(f"{sha256_of(path.parent / name)}  {shown}".replace("\\", "\\\\").replace("\n", "\\n"))
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()


def require_unchanged(path: Path, identity: str) -> None:
    """Refuses an engine whose files have changed since they were hashed.

    Raises:
        ArtefactError: They have.
        InputError: One cannot be read any more.
    """
    if (now := identity_of(path)) != identity:
        raise ArtefactError(
            f"{path} has changed while it was opened (SHA-256 {identity[:12]}, then {now[:12]}): "
            "wait until whoever writes it has finished, and try again"
        )
