"""Pairs as tensors, the recent ones kept with what was computed for them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.gate.images import to_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.data.pairs import Pair, PairSource
    from deploy_robust.gate.records import Defect

_RECENT = 32
"""Pairs that are kept."""


@dataclass(slots=True)
class Prepared:
    """A pair as tensors, with the clean outputs that were computed for it so far.

    Attributes:
        pair: The pair.
        rainy: (1, 3, H, W) float32 in [0, 1].
        truth: The ground truth likewise; None where there is none.
        clean: Output on the rainy image by role, (1, 3, H, W) float32, or the defect that came instead.
    """

    pair: Pair
    rainy: Tensor
    truth: Tensor | None
    clean: dict[str, Tensor | Defect] = field(default_factory=dict)


class PreparedPairs:
    """Pairs by their ids."""

    def __init__(self, source: PairSource) -> None:
        self._source = source
        self._index = {id_: index for index, id_ in enumerate(source.ids())}
        self._recent: OrderedDict[str, Prepared] = OrderedDict()

    def __call__(self, id_: str) -> Prepared:
        """The pair of an id."""
        if id_ in self._recent:
            self._recent.move_to_end(id_)
            return self._recent[id_]
        pair = self._source[self._index[id_]]
        truth = None if pair.clean is None else to_tensor(pair.clean)
        self._recent[id_] = prepared = Prepared(pair, to_tensor(pair.rainy), truth)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return prepared
