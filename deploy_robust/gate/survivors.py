"""When one of several engines ends the process, the others are measured without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deploy_robust.gate.records import ROWS, BatchResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.gate.records import Batch

_ENDINGS = ("crash", "timeout")


class Closable(Protocol):
    """An executor with a process of its own."""

    def execute(self, batch: Batch) -> BatchResult:
        """Measures every case of a batch."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


class Surviving:
    """An executor of several engines under test, of which none can take the others' measurements with it.

    A batch in which an engine ended the process, or hung, is measured again without that engine; what was recorded of
    it stays. So the figures of the others do not depend on who else is compared.
    """

    def __init__(
        self, everyone: Closable, judged: frozenset[str], without: Callable[[frozenset[str]], Closable]
    ) -> None:
        """Joins an executor with those that stand in.

        Args:
            everyone: Measures all engines.
            judged: Names of the engines.
            without: Makes an executor that leaves the named engines out.
        """
        self._everyone, self._judged, self._without = everyone, judged, without

    def execute(self, batch: Batch) -> BatchResult:
        """Measures every case of a batch."""
        result, fallen = self._everyone.execute(batch), frozenset[str]()
        while (ended := self._ended(result) - fallen) and self._lacks(batch, result, fallen | ended):
            fallen |= ended
            executor = self._without(fallen)
            try:
                result = _joined(result, executor.execute(batch))
            finally:
                executor.close()
        return result

    def close(self) -> None:
        """Ends the process."""
        self._everyone.close()

    def _ended(self, result: BatchResult) -> frozenset[str]:
        """Engines that ended the process, or may have."""
        ended = {m.role for m in result.measurements if m.defect is not None and m.defect.kind in _ENDINGS}
        return self._judged & ended

    def _lacks(self, batch: Batch, result: BatchResult, fallen: frozenset[str]) -> bool:
        """Whether another engine was not measured on a case."""
        found = {(m.case, m.role) for m in result.measurements}
        cases = [case for case in batch if case.attack != ROWS]
        return any((case, role) not in found for case in cases for role in self._judged - fallen)


def _joined(result: BatchResult, again: BatchResult) -> BatchResult:
    """What is there, and what it lacks."""
    found = {(m.case, m.role) for m in result.measurements}
    more = (m for m in again.measurements if (m.case, m.role) not in found)
    return BatchResult((*result.measurements, *more), {**again.images, **result.images})
