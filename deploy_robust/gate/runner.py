"""The runner joins planner, executor and store; it is the same for every command, attack and engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deploy_robust.errors import RunError
from deploy_robust.gate.records import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deploy_robust.gate.planners import Planner
    from deploy_robust.gate.records import Batch, BatchResult, Measurement


class Executor(Protocol):
    """Runs a batch: attack, engine and metrics; knows neither store nor policy."""

    def execute(self, batch: Batch) -> BatchResult:
        """Measures every case of a batch."""
        ...


class Store(Protocol):
    """Keeps finished batches; appends, never rewrites."""

    def finished(self) -> list[str]:
        """Digests of the finished batches, in order."""
        ...

    def append(self, index: int, batch: Batch, result: BatchResult) -> None:
        """Keeps a batch whole or not at all."""
        ...

    def measurements(self, batch: int | None = None) -> Iterator[Measurement]:
        """The measurements of one batch, or of all, in the order of execution."""
        ...


class _History:
    """What the planner sees: never more than the batches that it has yielded, also while a stored run is replayed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches = 0
        self.latest: Sequence[Measurement] = ()

    def grow(self, measurements: Sequence[Measurement]) -> None:
        self.latest = measurements
        self._batches += 1

    def everything(self) -> Iterator[Measurement]:
        for index in range(self._batches):
            yield from self._store.measurements(index)


def run(
    planner: Planner,
    executor: Executor,
    store: Store,
    *,
    on_batch: Callable[[Batch, Sequence[Measurement]], None] | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> bool:
    """Executes what the planner asks for and is not in the store yet.

    Args:
        planner: Decides what comes next.
        executor: Measures a batch.
        store: Keeps it; batches that it holds already are replayed to the planner and not executed again.
        on_batch: Called after every batch, stored or new: for progress.
        keep_going: Asked before every new batch; False ends the run early.

    Returns:
        Whether the planner came to its end.

    Raises:
        RunError: The store holds batches of another plan.
    """
    history = _History(store)
    finished = store.finished()
    for index, batch in enumerate(planner.batches(history)):
        measurements: Sequence[Measurement]
        if index < len(finished):
            if finished[index] != digest_of(batch):
                raise RunError(
                    f"batch {index} of the run folder is not the one that this plan asks for: "
                    "the folder belongs to another check; name another one with --out"
                )
            measurements = tuple(store.measurements(index))
        else:
            if not keep_going():
                return False
            result = executor.execute(batch)
            store.append(index, batch, result)
            measurements = result.measurements
        history.grow(measurements)
        if on_batch is not None:
            on_batch(batch, measurements)
    return True
