"""What a check tells about itself while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy_robust.gate.records import Measurement
    from deploy_robust.gate.watch import Standing, Watch


@dataclass(frozen=True, slots=True)
class Standings:
    """Where the tests by betting of a run stand.

    Attributes:
        tests: One for each line and epsilon.
        queries: Queries that searches have spent on the engine, in all.
        per_second: Of them, a second of this session; None before its first batch.
    """

    tests: tuple[Standing, ...]
    queries: int
    per_second: float | None


@dataclass(slots=True)
class Screen:
    """Counts batches for those who watch.

    Attributes:
        planned: Cases at most; None where that is open.
        stored: Batches that an earlier session has left.
        on_progress: Told the number of cases done and planned.
        on_standing: Told where the tests stand, after every batch that is new.
        watch: Follows the tests; None where there are none.
    """

    planned: int | None
    stored: int
    on_progress: Callable[[int, int | None], None] | None
    on_standing: Callable[[Standings], None] | None
    watch: Watch | None = None
    _done: int = 0
    _batches: int = 0
    _before: int = 0
    _started: float = field(default_factory=time.monotonic)

    def show(self, batch: Sequence[object], measurements: Sequence[Measurement]) -> None:
        """Takes in a batch, stored or new."""
        self._done += len(batch)
        self._batches += 1
        if self.on_progress is not None:
            self.on_progress(self._done, self.planned)
        if self.watch is None or self.on_standing is None:
            return
        self.watch.saw(measurements)
        if self._batches <= self.stored:  # that took no time of this session
            self._before, self._started = self.watch.queries, time.monotonic()
            if self._batches < self.stored:
                return
        seconds, queries = time.monotonic() - self._started, self.watch.queries - self._before
        rate = queries / seconds if queries and seconds > 0 else None
        self.on_standing(Standings(self.watch.standings(), self.watch.queries, rate))
