"""RESCAN: X. Li et al., "Recurrent Squeeze-and-Excitation Context Aggregation Net", ECCV 2018.

arXiv:1807.05698.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.layers import same_conv
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SQUEEZED_WIDTH = 6
"""Hidden width of every squeeze-excitation, whatever the width of the network."""

LEAK = 0.2


class SqueezeExcitation(nn.Module):
    """``x * sigmoid(expand(ReLU(squeeze(mean of each channel))))``, with biases; (N, C, H, W) to the same.

    Apart from `attention.SEMul`, which has none and a hidden width in proportion to C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = same_conv(width, SQUEEZED_WIDTH, 1)
        self.expand = same_conv(SQUEEZED_WIDTH, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        squeezed = torch.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.expand(squeezed))


class ContextUnit(nn.Module):
    """A gated recurrent unit of convolutions; dilated ones see the input, plain ones the state of the stage before.

    With input x and state h, and the convolutions of x written x_z, x_r, x_n and those of h h_z, h_r, h_n:

        z = sigmoid(x_z(x) + h_z(h)),  r = sigmoid(x_r(x) + h_r(h)),  n = tanh(x_n(x) + h_n(r * h))
        h' = LeakyReLU(SE((1 - z) * h + z * n)),  and h' = LeakyReLU(SE(sigmoid(x_z(x)) * tanh(x_n(x)))) without state
    """

    def __init__(self, inputs: int, width: int, dilation: int) -> None:
        super().__init__()
        self.x_z, self.x_r, self.x_n = (same_conv(inputs, width, dilation=dilation) for _ in range(3))
        self.h_z, self.h_r, self.h_n = (same_conv(width, width) for _ in range(3))
        self.excitation = SqueezeExcitation(width)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """The new state, (N, C, H, W), which is the output too."""
        if h is None:
            state = torch.sigmoid(self.x_z(x)) * torch.tanh(self.x_n(x))
        else:
            z = torch.sigmoid(self.x_z(x) + self.h_z(h))
            r = torch.sigmoid(self.x_r(x) + self.h_r(h))
            n = torch.tanh(self.x_n(x) + self.h_n(r * h))
            state = (1 - z) * h + z * n
        return F.leaky_relu(self.excitation(state), LEAK)


class RESCAN(Derainer):
    """One network applied `stages` times to what is left of the rain, with the states of its units carried along.

    With the rainy image O and x_0 = O: R_s = decoder(units(x_{s-1})), x_s = O - R_s; every R_s is the whole rain layer
    (frame "Full" in the paper). The weights are shared over the stages. Any height and width.

    The authors read images in BGR. Reversing the channels of the first and the last convolutions of their weights, as
    `from_official` does, gives the same network in RGB.

    `training_outputs` gives x_1..x_stages and no extras; the paper supervises all of them (as O - x_s).

    Args:
        width: Channels: 24 as published, 64 in the robustness benchmark (CVPR 2022).
        stages: At least 1; 4 as published.
        units: Recurrent units, at least 1; 5 as published, with dilations 1, 1, 2, 4, 8, and so on.
    """

    def __init__(self, *, width: int = 24, stages: int = 4, units: int = 5) -> None:
        if min(width, stages, units) < 1:
            raise UsageError(f"RESCAN needs width, stages and units of at least 1 (got {width}, {stages} and {units})")
        super().__init__()
        self.stages = stages
        self.units = nn.ModuleList(
            ContextUnit(width if k else 3, width, dilation=2 ** max(0, k - 1)) for k in range(units)
        )
        self.decoder_conv = same_conv(width, width)
        self.decoder_excitation = SqueezeExcitation(width)
        self.decoder_rain = same_conv(width, 3, 1)

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """x_1..x_stages; see the class."""
        rainy, image = x, x
        states: list[Tensor | None] = [None] * len(self.units)
        stages: list[Tensor] = []
        for _ in range(self.stages):
            y = image
            for k, unit in enumerate(self.units):
                y = states[k] = unit(y, states[k])
            rain = self.decoder_rain(F.leaky_relu(self.decoder_excitation(self.decoder_conv(y)), LEAK))
            image = rainy - rain
            stages.append(image)
        return TrainingOutputs(stages)


_OFFICIAL_LAYERS = {"dec.0": "decoder_conv", "dec.3": "decoder_rain"}
_EXCITATION = {"0": "squeeze", "2": "expand"}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the keys of the authors' checkpoints and turns BGR into RGB; unknown keys keep their names."""
    answer = {}
    for key, tensor in state.items():
        name = _our_key(key)
        if re.fullmatch(r"units\.0\.x_[zrn]\.weight", name):
            tensor = tensor.flip(1)
        elif name.startswith("decoder_rain."):
            tensor = tensor.flip(0)
        # Linear layers on pooled features are 1x1 convolutions here.
        answer[name] = tensor[:, :, None, None] if ".fc." in key and tensor.ndim == 2 else tensor
    return answer


def _our_key(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    layer = re.sub(r"^rnns\.(\d+)\.conv_([xh][zrn])$", lambda m: f"units.{m[1]}.{m[2][0]}_{m[2][1]}", layer)
    layer = re.sub(r"^rnns\.(\d+)\.se\.fc\.([02])$", lambda m: f"units.{m[1]}.excitation.{_EXCITATION[m[2]]}", layer)
    layer = re.sub(r"^dec\.1\.fc\.([02])$", lambda m: f"decoder_excitation.{_EXCITATION[m[1]]}", layer)
    return f"{_OFFICIAL_LAYERS.get(layer, layer)}.{kind}"


PAGE = ModelPage(
    blocks=(
        (
            "recurrent unit",
            "gated recurrent unit of 3x3 convs, dilated on the input and plain on the state; then squeeze-excitation "
            "multiplied and LeakyReLU 0.2",
        ),
        ("body", "five units with dilations 1, 1, 2, 4, 8; each keeps its state from stage to stage"),
        ("decoder", "conv C -> C, squeeze-excitation, LeakyReLU 0.2, conv 1x1 C -> 3: the rain layer R_s"),
        ("stages", "x_s = O - R_s goes through the same weights again; four times"),
    ),
    choices=(
        (
            "The published network has 24 channels (149,823 parameters), the benchmark's 1.04M parameters.",
            "Preset `benchmark` has 64 channels: 1,044,583 parameters, the only width that rounds to 1.04M.",
        ),
        (
            "The authors read images in BGR.",
            "RGB: importing their weights reverses the channels of the first and the last convolutions.",
        ),
        (
            "The argument called reduction is the hidden width of squeeze-excitation.",
            "6 at every width, as the code has it.",
        ),
        (
            "The authors return rain layers, the benchmark's loss takes derained images.",
            "Derained images of every stage; the rain layer is O minus them.",
        ),
        (
            "Unit (RNN, GRU, LSTM) and frame (Full, Add) can be chosen in the authors' code.",
            "GRU and Full, the authors' defaults.",
        ),
    ),
)
