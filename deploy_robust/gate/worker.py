"""The process in which batches run: ``python -m deploy_robust.gate.worker FD``, started by `gate.isolation` only.

It answers one message with one or more: first a builder, then batch after batch. Before every engine call it says what
is in flight, so that its supervisor knows what killed it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import DeployRobustError
from deploy_robust.freed_memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.gate.runner import Executor

READY, IN_FLIGHT, LANDED, RESULT, ERROR, FAULT = "ready", "in flight", "landed", "result", "error", "fault"

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Serves the supervisor at the other end of a socket until it hangs up."""
    if sys.platform == "linux":  # an orphan would go on computing for nobody
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    keep_freed_memory()
    line = Connection(descriptor)
    try:
        executor = _build(line)
        while executor is not None:
            batch = line.recv()
            _answer(line, RESULT, partial(executor.execute, batch))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    # Runtimes with threads of their own may hang while the interpreter tears them down, and nothing is left to save.
    os._exit(0)


def _build(line: Connection) -> Executor | None:
    builder: Callable[[Callable[[Any], None]], tuple[Executor, Any]] = line.recv()
    executor: Executor | None = None

    def build() -> Any:
        nonlocal executor
        executor, facts = builder(lambda flight: line.send((LANDED, None) if flight is None else (IN_FLIGHT, flight)))
        return facts

    _answer(line, READY, build)
    return executor


def _answer(line: Connection, kind: str, work: Callable[[], Any]) -> None:
    """Sends what `work` returns, or the error that it raises."""
    answer: tuple[str, Any]
    try:
        answer = (kind, work())
    except DeployRobustError as error:
        answer = (ERROR, error)
    except Exception as error:  # a fault of ours: told by the supervisor, not by a traceback in the user's terminal
        answer = (FAULT, (f"{type(error).__name__}: {error}", traceback.format_exc()))
    line.send(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
