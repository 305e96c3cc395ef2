"""PReNet: D. Ren et al., "Progressive Image Deraining Networks: A Better and Simpler Baseline", CVPR 2019.

arXiv:1901.09221.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

RESIDUAL_BLOCKS = 5


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


class ResidualBlock(nn.Module):
    """``ReLU(branch(y) + y)``; the branch of two convolutions already ends in a ReLU; (N, C, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(width, width)
        self.conv2 = conv3x3(width, width)

    def forward(self, y: Tensor) -> Tensor:
        """One block; (N, C, H, W)."""
        branch = torch.relu(self.conv2(torch.relu(self.conv1(y))))
        return torch.relu(branch + y)


class PReNet(Derainer):
    """One small network applied `iterations` times; an LSTM cell of convolutions carries its state along.

    With the rainy image O, x_0 = O and h_0 = c_0 = 0, for t = 1..T (the weights are shared over t):

        a = ReLU(encoder([O, x_{t-1}])),  q = [a, h_{t-1}]
        c_t = forget(q) * c_{t-1} + input(q) * candidate(q),  h_t = output(q) * tanh(c_t)
        x_t = decoder(residual blocks(h_t)) + O

    Any height and width. `training_outputs` gives the T images x_1..x_T and no extras; the paper supervises x_T alone.

    Args:
        width: Channels C of every hidden layer: 32 as published, 96 in the robustness benchmark (CVPR 2022).
        iterations: T, at least 1; 6 as published.
        shared_blocks: One residual block applied five times (the paper's PReNet_r) instead of five blocks.
    """

    def __init__(self, *, width: int = 32, iterations: int = 6, shared_blocks: bool = False) -> None:
        if width < 1 or iterations < 1:
            raise UsageError(f"PReNet needs width and iterations of at least 1 (got {width} and {iterations})")
        super().__init__()
        self.iterations = iterations
        self.encoder = conv3x3(6, width)
        self.input_gate = conv3x3(2 * width, width)
        self.forget_gate = conv3x3(2 * width, width)
        self.candidate = conv3x3(2 * width, width)
        self.output_gate = conv3x3(2 * width, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(1 if shared_blocks else RESIDUAL_BLOCKS))
        self.decoder = conv3x3(width, 3)

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """x_1..x_T; see the class."""
        rainy, image = x, x
        stages: list[Tensor] = []
        hidden = cell = None
        for _ in range(self.iterations):
            image, hidden, cell = self._iterate(rainy, image, hidden, cell)
            stages.append(image)
        return TrainingOutputs(stages)

    def _iterate(
        self, rainy: Tensor, image: Tensor, hidden: Tensor | None, cell: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, h_t and c_t from x_{t-1}, h_{t-1} and c_{t-1}; None stands for the zero state."""
        a = torch.relu(self.encoder(torch.cat([rainy, image], dim=1)))
        q = torch.cat([a, torch.zeros_like(a) if hidden is None else hidden], dim=1)
        fresh = torch.sigmoid(self.input_gate(q)) * torch.tanh(self.candidate(q))
        # The first forget gate would multiply zeros: leaving it out spares a convolution, here and in every export.
        cell = fresh if cell is None else torch.sigmoid(self.forget_gate(q)) * cell + fresh
        hidden = torch.sigmoid(self.output_gate(q)) * torch.tanh(cell)
        y = hidden
        for k in range(RESIDUAL_BLOCKS):
            y = self.blocks[k % len(self.blocks)](y)
        return self.decoder(y) + rainy, hidden, cell


_OFFICIAL_LAYERS = {
    "conv0.0": "encoder",
    "conv_i.0": "input_gate",
    "conv_f.0": "forget_gate",
    "conv_g.0": "candidate",
    "conv_o.0": "output_gate",
    "conv.0": "decoder",
}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the keys of the authors' checkpoints (PReNet and PReNet_r); unknown keys keep their names."""
    return {_renamed(key): tensor for key, tensor in state.items()}


def _renamed(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    if match := re.fullmatch(r"res_conv([1-9])\.([02])", layer):
        return f"blocks.{int(match[1]) - 1}.conv{1 if match[2] == '0' else 2}.{kind}"
    return f"{_OFFICIAL_LAYERS.get(layer, layer)}.{kind}"


PAGE = ModelPage(
    blocks=(
        ("encoder", "conv 6 -> C on [O, x_{t-1}], ReLU"),
        ("LSTM cell", "input, forget and output gates and candidate, each conv 2C -> C on [encoder, h_{t-1}]"),
        ("5 residual blocks", "ReLU(y + ReLU(conv(ReLU(conv(y)))))"),
        ("decoder", "conv C -> 3, plus O: x_t; six times with the same weights"),
    ),
    choices=(
        (
            "The benchmark gives 1.50M parameters, the published network has 168,963.",
            "Preset `benchmark` is 96 channels wide (1,502,211 parameters), the only width that rounds to 1.50M; "
            "official checkpoints fit `official`.",
        ),
        (
            "The first iteration multiplies a state of zeros.",
            "Its forget gate is left out, one convolution less than published; the image is the same.",
        ),
    ),
)
