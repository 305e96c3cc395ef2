"""Pairs held in memory as 8-bit images, so that a step costs no drawing and no decoding."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deploy_robust.data.pairs import iterate
from deploy_robust.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from deploy_robust.data.pairs import Pair, PairSource


class Pool(ABC):
    """What a training learns from; a subclass says what of a pair that is.

    Attributes:
        pairs: The pairs, in the order given.
        digest: SHA-256 over ids and contents: two pools with the same digest train the same network.

    Raises:
        InputError: There is no pair, or one that nothing can be learnt from.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        if not pairs:
            raise InputError("there are no pairs to train on: name a source with at least one")
        digest = hashlib.sha256()
        for pair in pairs:
            for content in self._contents(pair):
                digest.update(content)
        self.pairs = list(pairs)
        self.digest = digest.hexdigest()

    @staticmethod
    @abstractmethod
    def _contents(pair: Pair) -> Iterator[bytes]:
        """Everything of a pair that is learnt from, its id first.

        Raises:
            InputError: Something of it is missing.
        """

    @classmethod
    def of(cls, sources: Sequence[PairSource], on_pair: Callable[[int, int], None] | None = None) -> Self:
        """Draws every pair of the sources.

        Args:
            sources: Taken one after the other.
            on_pair: Called with (pairs drawn, pairs in all) after each.

        Raises:
            InputError: There is no pair, or one that nothing can be learnt from.
        """
        total = sum(len(source) for source in sources)
        pairs: list[Pair] = []
        for source in sources:
            for pair in iterate(source):
                pairs.append(pair)
                if on_pair is not None:
                    on_pair(len(pairs), total)
        return cls(pairs)

    def __len__(self) -> int:
        return len(self.pairs)
