"""How large the values inside a graph become: what an engine of half precision would lose to infinity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node

LARGEST_HALF = 65504.0
"""The largest float16; a result above it overflows or is rounded down to it."""


@dataclass(slots=True)
class ValueRange:
    """What was seen of one value, over all runs.

    Attributes:
        op: Operator that made it.
        node: That node's name.
        value: The value's name.
        peak: Largest magnitude; infinite or NaN where the graph itself overflowed.
        above: How many elements lay above `LARGEST_HALF` in magnitude, or were NaN.
        elements: How many were seen.
    """

    op: str
    node: str
    value: str
    peak: float = 0.0
    above: int = 0
    elements: int = 0

    @property
    def share_above(self) -> float:
        """Share of elements that float16 cannot hold."""
        return self.above / self.elements if self.elements else 0.0


@dataclass(slots=True)
class RangeWatch:
    """Ranges of all floating-point values that nodes made while the watch was on, whatever the graph's precision.

    Attributes:
        ranges: By value name, in the order of the graph.
    """

    ranges: dict[str, ValueRange] = field(default_factory=dict)

    def __call__(self, node: Node, name: str, value: Tensor) -> None:
        """Takes one value into account."""
        if not value.is_floating_point() or not value.numel():
            return
        seen = self.ranges.setdefault(name, ValueRange(node.op, node.name, name))
        magnitude = value.detach().abs()
        peak = magnitude.max().item()  # NaN where any value is
        seen.peak = peak if peak != peak or peak > seen.peak else seen.peak
        seen.elements += value.numel()
        if not peak <= LARGEST_HALF:
            seen.above += int(torch.count_nonzero(~(magnitude <= LARGEST_HALF)))

    def largest(self, count: int = 5) -> list[ValueRange]:
        """The values with the largest magnitudes, NaN first."""
        return sorted(self.ranges.values(), key=lambda r: (r.peak == r.peak, -r.peak))[:count]

    @property
    def overflowing(self) -> list[ValueRange]:
        """The values that float16 cannot hold all of, in the order of the graph: the first is where it begins."""
        return [seen for seen in self.ranges.values() if seen.above]
