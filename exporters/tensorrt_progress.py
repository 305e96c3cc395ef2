"""Progress of a build, minutes long: what the builder is at, and a way to stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str], None]


def monitor_of(trt: Any, tell: Progress) -> Any:
    """An ``IProgressMonitor`` that tells what it sees; call its ``reraise`` after the build.

    TensorRT calls it from its own threads, and bindings print and swallow what a callback raises. So whatever happens
    in one, Ctrl-C included, stops the build at its next step and is raised again by ``reraise``.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # its base is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._stopped_by: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps
            self._say(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._say(f"{phase_name}: {step + 1} of {self._steps.get(phase_name, '?')}")
            return self._stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def _say(self, text: str) -> None:
            try:
                tell(text)
            except BaseException as error:
                self._stopped_by = error

        def reraise(self) -> None:
            if self._stopped_by is not None:
                raise self._stopped_by

    return Monitor()
