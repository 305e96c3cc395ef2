"""What a process does with memory that it has freed, asked in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PAGES_OF_A_ROUND = 8 * 16 * 2**20 // 4096
COUNT_FAULTS = """\
import resource, sys
import torch
from deploy_robust.freed_memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
def round_of_blocks():  # eight of 16 MiB: a small network's activations
    blocks = [torch.ones(4 * 2**20) for _ in range(8)]
for _ in range(6):  # until the heap has the shape of these blocks
    round_of_blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
round_of_blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is kept is glibc's")


def faults(*arguments: str, **environment: str) -> int:
    """Pages that the system hands out in one more round of the same allocations."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", COUNT_FAULTS, *arguments]
    return int(subprocess.check_output(command, env={**usual, **environment}, timeout=120))


def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    assert faults("keep") < PAGES_OF_A_ROUND // 1000


def test_a_configured_allocator_is_left_alone() -> None:
    given_back = faults("keep", MALLOC_TRIM_THRESHOLD_="131072")
    assert given_back > 10 * max(1, faults("keep"))
    assert given_back == pytest.approx(faults(MALLOC_TRIM_THRESHOLD_="131072"), rel=0.1)
