"""What the process's exit code says; a pipeline gates on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy_robust.gate.records import Status

PASS = 0
FAIL = 1
"""The engine broke a requirement; engine defects included."""
TROUBLE = 2
"""Usage, files, environment or our own fault: nothing was judged."""
INCONCLUSIVE = 3
INTERRUPTED = 130
TERMINATED = 143


def of(status: Status) -> int:
    """The exit code of a verdict."""
    return {"PASS": PASS, "FAIL": FAIL, "INCONCLUSIVE": INCONCLUSIVE}[status.value]
