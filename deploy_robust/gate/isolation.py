"""Isolation: batches run in a process of their own, under a supervisor that outlives it.

An engine may hang or take its process down. Then the images in flight are recorded with what they did, and the run goes
on with a new process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from deploy_robust.errors import EnvironmentProblem, RunError
from deploy_robust.gate.records import CLEAN, BatchResult, Defect, Measurement, digest_of_image
from deploy_robust.gate.worker import ERROR, FAULT, IN_FLIGHT, LANDED, READY, RESULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.gate.records import Batch, Flight

F = TypeVar("F")

_PATIENCE = 0.2
"""Seconds between two looks at a silent process."""


class WorkerError(Exception):
    """A fault of ours in the process for batches: type and message from there, with the traceback as a note."""


@dataclass(slots=True)
class _Worker:
    """A process and the line to it."""

    process: subprocess.Popen[bytes]
    line: Connection

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.line.close()


class IsolatedExecutor(Generic[F]):
    """Executes batches in a child process; see the module's text.

    Attributes:
        facts: What the builder found out about the networks, after `start`.
    """

    def __init__(
        self,
        builder: Callable[[Callable[[Flight | None], None]], tuple[Any, F]],
        *,
        judged: frozenset[str],
        timeout: float,
        loading: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Plans a process; `start` makes it.

        Args:
            builder: Picklable; makes the executor and its facts in the child. It is given a function that must be told
                of every engine call: the flight before, None after.
            judged: Roles whose crashes and hangs are the engines' own.
            timeout: Seconds that one call of a network may take.
            loading: Seconds that opening the networks may take.
            clock: Monotonic seconds.
        """
        self._builder = builder
        self._judged = judged
        self._timeout = timeout
        self._loading = loading
        self._clock = clock
        self._worker: _Worker | None = None
        self._flight: Flight | None = None
        self.facts: F

    def start(self) -> F:
        """Starts the process and loads the networks there.

        Raises:
            DeployRobustError: What went wrong there.
        """
        self._worker = worker = _spawn()
        try:
            worker.line.send(self._builder)
            kind, answer, _ = self._wait(worker, loading=self._loading)
        except (EOFError, OSError) as error:
            worker.process.wait()
            how = _how(worker.process)
            self.close()
            raise EnvironmentProblem(
                f"loading the networks ended their process ({how}): "
                "try the engine alone with the tool that made it, and look for its message above"
            ) from error
        if kind != READY:
            self.close()
            raise EnvironmentProblem(
                f"loading the networks did not end within {self._loading:g} seconds: "
                "load the engine alone with the tool that made it, to see whether it comes up at all"
            )
        self.facts = answer
        return self.facts

    def execute(self, batch: Batch) -> BatchResult:
        """Measures a batch; a crash or hang of the judged engine is a measurement too.

        What was not in flight then is measured all the same. Where several pairs were in the batch, each is measured
        again alone, so that a pair answers for itself only; if none of them does it alone, what was in flight stays on
        record.

        Raises:
            RunError: The process died outside the judged engine, or was killed from outside.
        """
        return self._to_its_end(batch)[0]

    def _to_its_end(self, batch: Batch) -> tuple[BatchResult, bool]:
        """The measurements of a batch, and whether the engine survived it."""
        result, survived = self._execute(batch)
        if survived:
            return result, True
        pairs = dict.fromkeys(case.pair for case in batch)
        if len(pairs) > 1:
            again = [self._to_its_end(tuple(case for case in batch if case.pair == pair)) for pair in pairs]
            parts = [part for part, _ in again]
            return _joined([*parts, result] if all(alone for _, alone in again) else parts), False
        ended = {m.case for m in result.measurements}
        if any(case.attack == CLEAN for case in ended):
            return result, False  # nothing of this pair can be attacked
        rest = tuple(case for case in batch if case not in ended)
        return _joined([*([self._to_its_end(rest)[0]] if rest else []), result]), False

    def _execute(self, batch: Batch) -> tuple[BatchResult, bool]:
        """The measurements of a batch, and whether it came to its end; otherwise what was in flight."""
        if self._worker is None:
            self.start()
        worker = self._worker
        if worker is None:
            raise RunError("the process for batches did not start")
        try:
            worker.line.send(batch)
            kind, answer, flight = self._wait(worker)
        except (EOFError, OSError):
            return self._died(worker), False
        if kind == RESULT:
            result: BatchResult = answer
            return result, True
        self.close()
        if flight is None or flight.role not in self._judged:
            what = "an attack" if flight is None else f"the {flight.role}"
            raise RunError(f"{what} took more than {self._timeout:g} seconds for one call: give it more with --timeout")
        return _defective(flight, Defect("timeout", f"no answer within {self._timeout:g} seconds")), False

    def close(self) -> None:
        """Ends the process."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _wait(self, worker: _Worker, loading: float | None = None) -> tuple[str, Any, Flight | None]:
        """Listens until the answer, an error, or a time-out of loading or of a call (the kind is then empty)."""
        self._flight = None
        started = self._clock()
        while True:
            if not worker.line.poll(_PATIENCE):
                limit = self._timeout if self._flight is not None else loading
                if limit is not None and self._clock() - started > limit:
                    return "", None, self._flight
                if worker.process.poll() is not None and not worker.line.poll(0):
                    raise EOFError
                continue
            kind, content = worker.line.recv()
            if kind == IN_FLIGHT:
                self._flight, started = content, self._clock()
            elif kind == LANDED:
                self._flight = None
            elif kind == ERROR:
                raise content
            elif kind == FAULT:
                message, trace = content
                fault = WorkerError(message)
                fault.add_note(trace)  # for --debug
                raise fault
            else:
                return kind, content, None

    def _died(self, worker: _Worker) -> BatchResult:
        flight = self._flight
        worker.process.wait()
        how = _how(worker.process)
        self.close()
        if worker.process.returncode == -signal.SIGKILL:
            raise RunError(
                "the process for batches was killed from outside, mostly for want of memory: use smaller images, "
                "--batch 1 or more memory, and repeat the command to go on"
            )
        if flight is None or flight.role not in self._judged:
            where = "between two engine calls" if flight is None else f"inside the {flight.role}"
            raise RunError(f"the process for batches died {where} ({how}): this is not the engine's doing; see above")
        return _defective(flight, Defect("crash", f"the engine ended its process ({how})"))


def _joined(parts: list[BatchResult]) -> BatchResult:
    images = {sha256: image for part in parts for sha256, image in part.images.items()}
    return BatchResult(tuple(m for part in parts for m in part.measurements), images)


def _defective(flight: Flight, defect: Defect) -> BatchResult:
    """The images in flight, recorded with what they did; one of them did it."""
    digests = [digest_of_image(image) for image in flight.images]
    measurements = tuple(
        Measurement(case, scene, flight.role, flight.delivery, defect=defect, input_image=sha256)
        for case, scene, sha256 in zip(flight.cases, flight.scenes, digests, strict=True)
    )
    return BatchResult(measurements, dict(zip(digests, flight.images, strict=True)))


def _spawn() -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy_robust.gate.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for the supervisor alone
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        except OSError as error:
            ours.close()
            raise EnvironmentProblem(
                f"cannot start a process with {sys.executable or 'an unknown interpreter'} ({error.strerror}): "
                "networks run in one of their own; make that interpreter executable for you, or use another"
            ) from error
    return _Worker(process, Connection(ours.detach()))


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    if code is None or code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name
