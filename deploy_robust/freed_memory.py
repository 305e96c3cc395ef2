"""What this process does with memory that it has freed: it keeps it.

glibc gives the top of the heap back to the system as soon as enough of it is free, which is after nearly every gradient
of a small network, and the system hands it out again a page at a time, filled with zeros. That took a sixth of an
adversarial training step (`docs/decisions/0049-kept-memory.md`).
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1
_LARGEST = 32 * 2**20
"""Blocks from this size on are the system's own, one by one; glibc knows no larger threshold."""

_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""With these a user has told the allocator what to do."""


def keep_freed_memory() -> None:
    """Makes the whole process keep what it frees, for programs whose process is theirs; results are the same.

    Peak memory is as before; between two peaks it stays where it was. Does nothing under another C library than glibc,
    or where the environment configures the allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _CHOICES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
