"""Clearing away what a killed process left behind, and nothing of one that lives."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TEMPORARY = ".*." + "[0-9a-f]" * 8 + ".*"
"""Names that `artefact.files.atomic` gives to files that are being written."""


@contextmanager
def swept(folder: Path, leftovers: str) -> Iterator[None]:
    """Removes temporary files and folders of dead processes, and keeps other processes from removing ours meanwhile.

    Whoever works in the folder holds a shared lock on it; who finds nobody there may sweep.

    Args:
        folder: Is there.
        leftovers: Pattern of the temporary folders' names.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # somebody works there, or the file system knows no locks: then nothing is swept
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in (*folder.glob(leftovers), *folder.glob(_TEMPORARY)):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
