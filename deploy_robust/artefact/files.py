"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploy_robust.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def make_folder(folder: Path) -> None:
    """Makes a folder with its parents.

    Raises:
        InputError: It cannot be made, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another place") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {folder}: permission denied; choose another place")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; it takes the name `path` only if the block succeeds.

    The temporary name keeps the suffix, because some writers choose their format by it. Whatever goes wrong, an older
    file at `path` stays as it was and the temporary one is removed.

    Raises:
        InputError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        try:
            _sync(temporary)
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a whole file or none.

    Raises:
        InputError: The file cannot be written.
    """
    with atomic(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; free some space or choose another place"
            ) from error


def _sync(path: Path) -> None:
    """Brings the content to the disk before the name says that it is there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
