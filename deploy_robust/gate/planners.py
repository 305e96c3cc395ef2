"""Planners yield batches of cases and may read what was measured before; they know neither engines nor store.

A planner is replayed from the start when a run is resumed: it must yield the same batches again when it sees the same
measurements. So it draws nothing at random and looks at nothing but its own settings and the history.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from deploy_robust.gate.records import Batch, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploy_robust.gate.records import Measurement


class History(Protocol):
    """The measurements of the batches that the planner has yielded so far."""

    @property
    def latest(self) -> Sequence[Measurement]:
        """Those of the last batch; empty before the first."""
        ...

    def everything(self) -> Iterator[Measurement]:
        """All of them, in order, read from the store."""
        ...


class Planner(Protocol):
    """Something that decides what to measure next."""

    def batches(self, history: History) -> Iterator[Batch]:
        """Yields batches; between two of them `history` has grown by the measurements of the first."""
        ...

    @property
    def size(self) -> int | None:
        """How many cases there will be at most; None where that is open."""
        ...


@dataclass(frozen=True, slots=True)
class Grid:
    """Every pair under every (attack, level), so many pairs in a batch.

    All attacks and levels of a pair share its batch, because they share its clean output.

    Attributes:
        pairs: Ids of pairs, in the order in which they are measured.
        attacks: (attack name, epsilon in grey levels), in the order of the batch.
        pairs_per_batch: How many pairs are executed together.
        only: Attack to the pairs that it is run on, where those are not all.
    """

    pairs: tuple[str, ...]
    attacks: tuple[tuple[str, float], ...]
    pairs_per_batch: int = 1
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def batches(self, history: History) -> Iterator[Batch]:  # noqa: ARG002  # a fixed grid looks at nothing
        """Yields the grid, pair by pair."""
        for start in range(0, len(self.pairs), self.pairs_per_batch):
            yield tuple(case for pair in self.pairs[start : start + self.pairs_per_batch] for case in self._of(pair))

    @property
    def size(self) -> int:
        """Number of cases."""
        return sum(len(self._of(pair)) for pair in self.pairs)

    def _of(self, pair: str) -> list[Case]:
        return [
            Case(pair, attack, level)
            for attack, level in self.attacks
            if attack not in self.only or pair in self.only[attack]
        ]


@dataclass(frozen=True, slots=True)
class Chain:
    """One planner after another."""

    parts: tuple[Planner, ...]

    def batches(self, history: History) -> Iterator[Batch]:
        """Yields all batches of the first part, then those of the next."""
        for part in self.parts:
            yield from part.batches(history)

    @property
    def size(self) -> int | None:
        """Number of cases, where every part knows its own."""
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)


@dataclass(frozen=True, slots=True)
class StopWhen:
    """Another planner, cut short once a batch shows what was looked for: a broken parity, a first failure.

    Attributes:
        planner: What to run meanwhile.
        found: Looks at the measurements of the newest batch.
    """

    planner: Planner
    found: Callable[[Sequence[Measurement]], bool]

    def batches(self, history: History) -> Iterator[Batch]:
        """Yields the inner planner's batches until one of them is found wanting."""
        for batch in self.planner.batches(history):
            yield batch
            if self.found(history.latest):
                return

    @property
    def size(self) -> int | None:
        """At most as many cases as the inner planner."""
        return self.planner.size


class Watching(Protocol):
    """Follows a run and says when nothing more needs to be measured."""

    def saw(self, measurements: Sequence[Measurement]) -> bool:
        """Takes in the measurements of the newest batch."""
        ...


@dataclass(frozen=True, slots=True)
class UntilDecided:
    """Another planner, cut short once what it has measured decides every test.

    Attributes:
        planner: What to run meanwhile.
        watch: Makes what follows the run, anew for every replay: what it holds comes from the stored batches alone.
    """

    planner: Planner
    watch: Callable[[], Watching]

    def batches(self, history: History) -> Iterator[Batch]:
        """Yields the inner planner's batches until everything is decided."""
        watch = self.watch()
        for batch in self.planner.batches(history):
            yield batch
            if watch.saw(history.latest):
                return

    @property
    def size(self) -> int | None:
        """At most as many cases as the inner planner."""
        return self.planner.size
