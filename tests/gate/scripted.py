"""What `test_isolation` sends into another process, which must be able to import it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.errors import ArtefactError, EngineDefect
from deploy_robust.gate.records import Batch, BatchResult, Case, Flight, Measurement

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Scripted:
    """An executor that does to its process what the case's id says."""

    notify: Callable[[Flight | None], None]

    def execute(self, batch: Batch) -> BatchResult:
        results = [self._execute(case) for case in batch]
        return BatchResult(tuple(m for result in results for m in result.measurements))

    def _execute(self, case: Case) -> BatchResult:
        what, _, role = case.pair.partition(" in ")
        image = np.full((32, 32, 3), 7, np.uint8)
        if role:
            self.notify(Flight(role, (case,), ("scene",), "8bit", (image,) if role == "engine" else ()))
        if what == "abort" and case.attack != "quiet":
            os.abort()
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang":
            signal.pause()
        if what == "refuse":
            raise ArtefactError("not this file")
        self.notify(None)
        return BatchResult((Measurement(case, "scene", "engine", "8bit", {"pid": float(os.getpid())}),))


@dataclass
class Builder:
    """Makes a `Scripted`; fails as told."""

    trouble: str = ""

    def __call__(self, notify: Callable[[Flight | None], None]) -> tuple[Scripted, str]:
        if self.trouble == "abort":
            os.abort()
        if self.trouble == "hang":
            signal.pause()
        if self.trouble == "refuse":
            raise EngineDefect("shape", "wrong shape")
        return Scripted(notify), "facts"
