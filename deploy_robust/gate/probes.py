"""Probes: looks inside a network while it answers, for what its output alone does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from deploy_robust.errors import EngineDefect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

PEAK = "float16_peak"
"""Largest magnitude of any value inside a float16 graph, read literally; infinite where it overflowed or was NaN."""

PEAK_NODE = "float16_peak_node"
"""Which node of the graph made it, counted from 0; where values overflowed, the first node that did."""

LARGEST_HALF = 65504.0
"""The largest float16."""


class Probe(Protocol):
    """Watches a network inside a ``with`` block; what it saw stands in the mapping when the block has ended."""

    def __call__(self) -> AbstractContextManager[Mapping[str, float]]:
        """Begins to watch."""
        ...


def probed(probe: Probe | None, restore: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, float]:
    """What a probe sees while a network answers one image.

    Args:
        probe: None sees nothing, and the network is not asked.
        restore: The network that the probe watches.
        x: (1, 3, H, W) float32 in [0, 1].
    """
    import torch  # reports read the names above, and load no networks

    if probe is None:
        return {}
    found: Mapping[str, float] = {}
    try:
        with torch.no_grad(), probe() as found:
            restore(x)
    except EngineDefect:  # found where the network is measured; what was seen until then counts
        pass
    return dict(found)
