"""Ctrl-C and SIGTERM: the first ends the command in order, a second one at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):  # like KeyboardInterrupt
    """SIGTERM has asked the command to end."""


_received: signal.Signals | None = None


def listen() -> None:
    """Turns the first of `ENDING` into an exception, so that children end and folders are left whole.

    A signal that whoever started us has ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def note(number: int) -> None:
    """Notes a signal that was answered elsewhere: a training stops after its step."""
    global _received  # one process, one ending
    _received = signal.Signals(number)


def asked() -> BaseException:
    """The exception of the signal that was noted last."""
    return Terminated() if _received is signal.SIGTERM else KeyboardInterrupt()


def _end(number: int, _: FrameType | None) -> None:
    if _received is not None:
        os._exit(128 + number)  # children die with us: the kernel tells them
    note(number)
    raise asked()
