"""Calls of TensorRT, checked: None and False become one exception that carries what the logger was told meanwhile."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from deploy_robust.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

KEPT = 256
"""Lines of TensorRT's log that are kept."""

SHOWN = 3
"""Lines of it that an error shows: the last ones, the worst first."""

_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}
_forward = logging.getLogger("deploy_robust.tensorrt")
# Errors carry these lines already: without a handler of the user's they would stand on stderr a second time.
_forward.addHandler(logging.NullHandler())


class TensorRTFailure(EnvironmentProblem):
    """A call of TensorRT that answered None or False, or raised.

    Attributes:
        call: What was called, like ``build_serialized_network``.
        lines: What the logger was told meanwhile, oldest first.
    """

    def __init__(self, call: str, lines: Iterable[str] = (), remedy: str = "") -> None:
        self.call, self.lines, self.remedy = call, tuple(lines), remedy
        why = "; ".join(self.lines) or "it gave no reason"
        super().__init__(f"TensorRT's {call} failed ({why[:600]})" + (f": {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[TensorRTFailure], tuple[str, tuple[str, ...], str]]:
        """Pickles with its parts: errors cross from a worker process."""
        return type(self), (self.call, self.lines, self.remedy)


class Log:
    """The last lines that TensorRT logged; forwards them to ``logging`` under ``deploy_robust.tensorrt``."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str, str]] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, severity: str, text: str) -> None:
        """Takes one line; called from TensorRT's threads, so it must not raise."""
        self._count += 1
        self._lines.append((self._count, severity, " ".join(text.split())))
        _forward.log(_LEVELS.get(severity, logging.DEBUG), "%s", text)

    def mark(self) -> int:
        """A point in time for `reasons`."""
        return self._count

    def reasons(self, since: int = 0) -> tuple[str, ...]:
        """The last few lines after `since` of the worst severity among them; empty where none was loud."""
        fresh = [(severity, text) for number, severity, text in list(self._lines) if number > since]
        for severity in (("INTERNAL_ERROR", "ERROR"), ("WARNING",)):
            if found := [text for name, text in fresh if name in severity]:
                return tuple(dict.fromkeys(found))[-SHOWN:]
        return ()

    def failure(self, call: str, since: int = 0, remedy: str = "") -> TensorRTFailure:
        """The exception of a call that failed."""
        return TensorRTFailure(call, self.reasons(since), remedy)


LOG = Log()
"""TensorRT takes one logger per process in earnest, so that there is one log."""

_loggers: dict[int, Any] = {}
"""The one logger for each tensorrt module: it must live longer than everything made with it."""


def logger_of(trt: Any) -> Any:
    """The logger to give to TensorRT's constructors; it writes to `LOG`."""
    if id(trt) not in _loggers:
        _loggers[id(trt)] = _new_logger(trt)
    return _loggers[id(trt)]


def _new_logger(trt: Any) -> Any:
    class Forwarding(trt.ILogger):  # type: ignore[misc]  # its base is known at run time only
        """Hands lines to `LOG`; bindings print and swallow what a callback raises."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            LOG.add(getattr(severity, "name", str(severity).rsplit(".", 1)[-1]), msg)

    return Forwarding()


def must(value: T | None, call: str, since: int = 0, remedy: str = "") -> T:
    """`value`, unless it is None.

    Args:
        value: What the call answered.
        call: Its name, for the message.
        since: `Log.mark` before the call.
        remedy: What the user can do.

    Raises:
        TensorRTFailure: It is None; the reason stands in TensorRT's log only, and is taken from there.
    """
    if value is None:
        raise LOG.failure(call, since, remedy)
    return value


def ok(answer: bool, call: str, since: int = 0, remedy: str = "") -> None:
    """Nothing, unless a call answered False; see `must`."""
    if not answer:
        raise LOG.failure(call, since, remedy)
