"""A network in cheaper arithmetic, to search on: gradients need fewer digits than scores."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deploy_robust.models.layout import fast_layout


class Draft(nn.Module):
    """A copy of a network that convolves in bfloat16.

    Weights and hidden layers are bfloat16. The image stays float32, so that what a residual network adds to its input
    is not rounded to half a grey level.

    Args:
        network: An image batch to one of the same shape; it is copied and stays as it is.
        device: Where it runs; on a CPU its layout becomes channels last, which its bfloat16 kernels want.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self._layout = fast_layout(device)
        self._device = device.type
        self.network = copy.deepcopy(network).to(device, torch.bfloat16).to(memory_format=self._layout)
        self.network.eval().requires_grad_(False)

    def forward(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) float32 to the same."""
        # Autocast also serves networks that make float32 tensors on the way.
        with torch.autocast(self._device, dtype=torch.bfloat16):
            restored: Tensor = self.network(batch.contiguous(memory_format=self._layout))
        return restored.float().contiguous()
