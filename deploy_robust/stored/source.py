"""The pairs of an adversarial set, as a pair source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.data.pairs import Pair
from deploy_robust.stored.labels import from_index

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.stored.adversarial_set import AdversarialSet


class SetSource:
    """Clean inputs, ground truth and labels of a set."""

    def __init__(self, stored: AdversarialSet) -> None:
        self._set = stored

    @property
    def name(self) -> str:
        """The set's name."""
        return self._set.name

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """The hash of the index, which holds all others."""
        return {"source": "set", "set": self._set.sha256, "paired": self.paired, "count": len(self)}

    @property
    def paired(self) -> bool:
        """Whether every pair has ground truth."""
        return self._set.paired

    def __len__(self) -> int:
        return len(self._set.index.pairs)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        pair = self._set.index.pairs[index]
        return Pair(
            id=pair.id,
            rainy=self._set.clean(pair),
            clean=self._set.truth(pair),
            scene=pair.scene,
            labels=from_index(pair.labels, self._set.folder),
        )

    def ids(self) -> list[str]:
        """The ids in order."""
        return [pair.id for pair in self._set.index.pairs]
