"""What the process's exit code says; a pipeline gates on it."""

from __future__ import annotations

PASS = 0
FAIL = 1
"""The engine broke a requirement; engine defects included."""
TROUBLE = 2
"""Usage, files, environment or our own fault: nothing was judged."""
INCONCLUSIVE = 3
INTERRUPTED = 130
