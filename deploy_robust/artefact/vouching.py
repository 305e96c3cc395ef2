"""Artefacts that carry native code: they are only read for loading when somebody answers for their bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from deploy_robust.artefact.hashing import identity_of, sha256_of
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from pathlib import Path


def vouched_bytes(path: Path, vouched: str | None = None) -> bytes:
    """The bytes of an artefact whose hash its manifest or the user names; load these, and not the file again.

    Args:
        path: The artefact.
        vouched: SHA-256 that the user gave, of the file alone or with those beside it; it wins over the manifest.

    Raises:
        ArtefactError: Nobody answers for these bytes, or the hash is another one.
        InputError: The file cannot be read.
    """
    manifest = None if vouched else read_manifest(path)
    wanted = vouched.strip().lower() if vouched else None if manifest is None else manifest.artefact.sha256
    if wanted is None:
        raise ArtefactError(
            f"{path} carries native code, which runs with your rights when it is loaded, and no manifest names it: "
            f"if you know where it comes from, give --vouch {sha256_of(path)}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
    found = hashlib.sha256(content).hexdigest()
    if wanted not in (found, identity_of(path, content)):
        raise ArtefactError(
            f"{path} is not the file that was vouched for: expected sha256 {wanted[:12]}..., found {found[:12]}...; "
            "copy or export it again"
        )
    return content
