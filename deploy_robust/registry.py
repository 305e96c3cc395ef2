"""A table of things with names: attacks, metrics. Plain on purpose: no decorators, one line for each entry."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Generic, TypeVar

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Entry = TypeVar("Entry")


def instead_of(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown name ends with: the nearest known one, and all of them."""
    options = list(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known are {', '.join(options)}"


class Registry(Generic[Entry]):
    """Names and what they stand for, in the order in which they were added.

    Attributes:
        kind: What the entries are, for messages: ``attack``, ``metric``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Adds one entry; a failed call leaves the registry as it was.

        Raises:
            UsageError: The name is taken.
        """
        if name in self._entries:
            raise UsageError(f"there is already a {self.kind} named {name!r}: choose another name")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UsageError: There is none; the message names the nearest.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise UsageError(f"no {self.kind} is named {name!r}: {instead_of(name, self._entries)}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def copy(self) -> Registry[Entry]:
        """An independent registry with the same entries."""
        twin: Registry[Entry] = Registry(self.kind)
        twin._entries = dict(self._entries)
        return twin
