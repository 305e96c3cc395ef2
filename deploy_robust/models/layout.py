"""How images lie in memory where convolutions are fast."""

from __future__ import annotations

import torch


def fast_layout(device: torch.device) -> torch.memory_format:
    """Channels last on a CPU, whose convolutions want it (`benchmarks/layout.py`); torch's own layout elsewhere.

    Values are the same up to the last bits of a sum.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format
