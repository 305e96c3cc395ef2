"""Sources made from another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.data.pairs import Pair, PairSource


class Derived(ABC):
    """The pairs of another source, one for one, each changed; a subclass says how.

    Args:
        source: Where the pairs come from.
    """

    def __init__(self, source: PairSource) -> None:
        self._source = source

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def paired(self) -> bool:
        """Whether the source is."""
        return self._source.paired

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """The source's, and what is changed."""

    def __len__(self) -> int:
        return len(self._source)

    @abstractmethod
    def __getitem__(self, index: int) -> Pair: ...

    def ids(self) -> list[str]:
        """The source's ids."""
        return self._source.ids()
