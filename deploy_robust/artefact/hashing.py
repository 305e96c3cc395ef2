"""Content hashes: what an artefact, a checkpoint or a data set is known by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from deploy_robust.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

BIN_HASH = ("deploy_robust", "bin_sha256")
"""Where an OpenVINO IR file of ours holds the hash of its weights: the hash of the one then covers the other."""


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
