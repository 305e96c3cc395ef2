"""RCDNet: H. Wang, Q. Xie, Q. Zhao, D. Meng, "A Model-Driven Deep Neural Network for Single Image Rain Removal".

CVPR 2020, arXiv:2005.01333.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.attention import ATTENTIONS, Attention
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.folding import PIXEL_UNIT, FoldedNetwork, change_units, fold_batch_norm
from deploy_robust.models.layers import same_conv
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

KERNEL = 9
_PADDING = KERNEL // 2
_STEP_UNIT = 10.0
"""The authors store dictionary and step sizes times ten, which multiplies their learning rates."""

WIDTH_FOR_STAGES = {1: 99, 2: 81, 3: 70, 5: 57, 8: 46, 12: 38, 17: 32}
"""Number of rain maps (and of dual channels) that gives about 3.0M parameters with that many stages."""


def streak_kernels(count: int) -> Tensor:
    """Vertical Gaussian streaks of growing length, (3, count, 9, 9) float32, equal over RGB, each with sum 1.

    The deterministic form of the authors' generator for i = 1..32; other counts take as many lengths at even distances
    from the same range.
    """
    index = torch.linspace(1.0, 32.0, count, dtype=torch.float64).view(-1, 1, 1)
    short = index <= 12
    length = index / 4 + torch.where(short, 2.5, 2.0)
    inner = torch.where(short, 0.0, 1.0)  # round(4 * 0.1) and round(4 * 0.2)
    sigma = torch.where(short, 0.25, 0.5)
    offset = torch.arange(-_PADDING, _PADDING + 1, dtype=torch.float64)
    shrunk = offset.sign() * (offset.abs() - inner).clamp(min=0)  # (count, 1, 9)
    x, y = shrunk, shrunk.transpose(1, 2) / length
    kernels = torch.exp(-(x.square() + y.square()) / (2 * sigma.square()))
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    return kernels.float().expand(3, -1, -1, -1).contiguous()


class RainDictionary(nn.Module):
    """Convolutional dictionary of streaks: R = sum_n K_n * M_n, with K a tenth of the stored kernels.

    Args:
        maps: Number of kernels, one for each rain map.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.kernels = nn.Parameter(streak_kernels(maps))

    def down(self, maps: Tensor) -> Tensor:
        """Rain maps (N, M, H, W) to the rain layer (N, 3, H, W)."""
        return F.conv2d(maps, self.kernels / _STEP_UNIT, padding=_PADDING)

    def up(self, residual: Tensor) -> Tensor:
        """The adjoint of `down`: (N, 3, H, W) to (N, M, H, W)."""
        return F.conv_transpose2d(residual, self.kernels / _STEP_UNIT, padding=_PADDING)


class ConstantDictionary(nn.Module):
    """A dictionary for export: both directions are plain convolutions with weights of their own.

    A transposed convolution with stride 1 is a convolution with the flipped kernels; some runtimes take transposed ones
    with constant weights only, and quantisers know plain ones best.
    """

    def __init__(self, dictionary: RainDictionary) -> None:
        super().__init__()
        kernels = dictionary.kernels.detach() / _STEP_UNIT
        maps = kernels.shape[1]
        self.down = same_conv(maps, 3, KERNEL, bias=False).to(kernels)
        self.up = same_conv(3, maps, KERNEL, bias=False).to(kernels)
        with torch.no_grad():
            self.down.weight.copy_(kernels)
            self.up.weight.copy_(kernels.flip(2, 3).transpose(0, 1))


class ProximalBlock(nn.Module):
    """``ReLU(x + attention(BN(conv(ReLU(BN(conv(x)))))))``; (N, C, H, W) to the same shape."""

    def __init__(self, channels: int, attention: str, reduction: int) -> None:
        super().__init__()
        self.conv1 = same_conv(channels, channels)
        self.norm1: nn.Module = nn.BatchNorm2d(channels)
        self.conv2 = same_conv(channels, channels)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)
        self.attention: Attention = ATTENTIONS[attention](channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        branch = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(x + self.attention(branch))

    def fold(self, unit: float) -> None:
        """Folds BatchNorm in place and moves the block to ``x / unit``."""
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2")):
            folded = fold_batch_norm(getattr(self, conv), getattr(self, norm))
            change_units(folded, unit, unit)
            setattr(self, conv, folded)
            setattr(self, norm, nn.Identity())
        self.attention.fold(unit)


class ProximalNet(nn.Module):
    """The learnt proximal operator of one step: residual blocks, and for rain maps a soft threshold.

    Args:
        channels: C.
        blocks: Number of blocks.
        attention: Name in `ATTENTIONS`, placed at the end of each residual branch.
        reduction: Of the attention module.
        threshold: Whether ``ReLU(x - tau)`` with learnt tau (1, C, 1, 1) follows.
    """

    def __init__(self, channels: int, blocks: int, attention: str, reduction: int, *, threshold: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ProximalBlock(channels, attention, reduction) for _ in range(blocks))
        self.threshold = nn.Parameter(torch.full((1, channels, 1, 1), 0.5)) if threshold else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape, at least 0."""
        for block in self.blocks:
            x = block(x)
        return x if self.threshold is None else torch.relu(x - self.threshold)


class RCDNet(Derainer):
    """Proximal gradient descent on rain maps M and background B, unrolled, with learnt proximal operators.

    The model is O = B + K * M with a convolutional dictionary K (9x9, one for all steps; a second one, K_0, starts M).
    With steps e and the adjoint K^T, for s = 1..S:

        M = prox_s(M - e_s K^T (K M - (O - B)))          (first: prox_1(K_0^T ReLU(O - B_0 - tau)))
        B, Z = xprox_s([B - e'_s (B - (O - K M)), Z])

    B_0 and the dual channels Z come from a proximal net on [O, conv(O)], the final image from one more. Any height and
    width; 0..255 inside; at least 0 by its last ReLU.

    `training_outputs` gives the S + 2 images B_0, B_1..B_S and the final one, and the extra ``rain``, the S rain layers
    K M as (S, N, 3, H, W) in [0, 1] units.

    Args:
        stages: S, at least 1; 17 as published.
        width: Number of rain maps and of dual channels; 32 as published. None takes the width that gives about 3.0M
            parameters with 1, 2, 3, 5, 8, 12 or 17 stages.
        blocks: Residual blocks in each proximal net; 4 as published.
        attention: Module at the end of each residual branch: none, se-mul, se-add, cbam, gc-mul, gc-add or sk.
        reduction: Of that module.
    """

    def __init__(
        self,
        *,
        stages: int = 17,
        width: int | None = 32,
        blocks: int = 4,
        attention: str = "none",
        reduction: int = 4,
    ) -> None:
        if width is None:
            if stages not in WIDTH_FOR_STAGES:
                known = ", ".join(map(str, WIDTH_FOR_STAGES))
                raise UsageError(
                    f"no width is known for RCDNet with {stages} stages: use {known} stages or give a width"
                )
            width = WIDTH_FOR_STAGES[stages]
        if stages < 1 or width < 1 or blocks < 1:
            raise UsageError(f"RCDNet needs stages, width and blocks of at least 1 (got {stages}, {width}, {blocks})")
        super().__init__()
        self.stages, self.width, self.blocks = stages, width, blocks
        self.dual_filter = same_conv(3, width, bias=False)
        nn.init.constant_(self.dual_filter.weight, 1 / 9)
        self.first_dictionary: RainDictionary | ConstantDictionary = RainDictionary(width)
        self.dictionary: RainDictionary | ConstantDictionary = RainDictionary(width)
        self.threshold: Tensor | float = nn.Parameter(torch.ones(1))
        self.map_steps: Tensor | list[float] = nn.Parameter(torch.ones(stages - 1))
        self.image_steps: Tensor | list[float] = nn.Parameter(torch.full((stages,), 5.0))
        channels = width + 3
        self.first_net = ProximalNet(channels, blocks, attention, reduction)
        self.map_nets = nn.ModuleList(
            ProximalNet(width, blocks, attention, reduction, threshold=True) for _ in range(stages)
        )
        self.image_nets = nn.ModuleList(ProximalNet(channels, blocks, attention, reduction) for _ in range(stages))
        self.final_net = ProximalNet(channels, blocks, attention, reduction)

    def _unrolled(self, rainy: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Images B_0, B_1..B_S, final, and rain layers R_1..R_S, in the network's own units."""
        image, dual = _split(self.first_net(torch.cat([rainy, self.dual_filter(rainy)], dim=1)))
        images, rains = [image], list[torch.Tensor]()
        maps = self.first_dictionary.up(torch.relu(rainy - image - self.threshold))
        for s in range(self.stages):
            if s > 0:
                maps = maps - self.map_steps[s - 1] / _STEP_UNIT * self.dictionary.up(rains[-1] - (rainy - image))
            maps = self.map_nets[s](maps)
            rain = self.dictionary.down(maps)
            image = image - self.image_steps[s] / _STEP_UNIT * (image - (rainy - rain))
            both = self.image_nets[s](torch.cat([image, dual], dim=1))
            image, dual = _split(both)
            images.append(image)
            rains.append(rain)
        images.append(_split(self.final_net(both))[0])
        return images, rains

    def native(self, rainy: Tensor) -> Tensor:
        """The final image in the network's own units."""
        return self._unrolled(rainy)[0][-1]

    def forward(self, x: Tensor) -> Tensor:
        """The final image, (N, 3, H, W)."""
        return self.native(x * PIXEL_UNIT) / PIXEL_UNIT

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Every image and rain layer; see the class."""
        images, rains = self._unrolled(x * PIXEL_UNIT)
        return TrainingOutputs([image / PIXEL_UNIT for image in images], {"rain": torch.stack(rains) / PIXEL_UNIT})

    def for_export(self) -> nn.Module:
        """The same network in [0, 1] units, BatchNorm folded, dictionaries, steps and thresholds constant."""
        twin = copy.deepcopy(self).eval()
        with torch.no_grad():
            for module in twin.modules():
                if isinstance(module, ProximalNet) and module.threshold is not None:
                    module.threshold.div_(PIXEL_UNIT)
                if isinstance(module, ProximalBlock):
                    module.fold(PIXEL_UNIT)
        for name in ("first_dictionary", "dictionary"):
            setattr(twin, name, ConstantDictionary(getattr(self, name)))
        constants = {name: getattr(self, name).tolist() for name in ("threshold", "map_steps", "image_steps")}
        constants["threshold"] = constants["threshold"][0] / PIXEL_UNIT
        for name, value in constants.items():
            delattr(twin, name)  # a parameter's name takes no plain number
            setattr(twin, name, value)
        return FoldedNetwork(twin)

    @property
    def published_parameter_count(self) -> int:
        """The authors' class holds S - 1 dictionaries and reads one, and a rain-map net and a step that it never uses.

        As published it needs S >= 2 to hold a dictionary at all; with S = 1 the one that is used is counted.
        """
        unused_net = self.map_nets[0].parameters()
        spare_dictionaries = max(self.stages - 2, 0) * 3 * KERNEL**2 * self.width
        return self.parameter_count + 1 + spare_dictionaries + sum(parameter.numel() for parameter in unused_net)


def _split(both: Tensor) -> tuple[Tensor, Tensor]:
    """Background (N, 3, H, W) and dual channels of one tensor."""
    return both[:, :3], both[:, 3:]


_OFFICIAL_PLAIN = {
    "weight0": "first_dictionary.kernels",
    "w_z_f": "dual_filter.weight",
    "tau": "threshold",
    "eta11": "map_steps",
}
_OFFICIAL_NETS = {"xnet": "first_net", "fxnet": "final_net", "x_stage": "image_nets", "m_stage": "map_nets"}
_OFFICIAL_LAYERS = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}
_SHARED_DICTIONARY = 1


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Maps the authors' checkpoints to ours; unknown keys keep their names.

    Dropped, since the authors' network never reads them: the net ``mnet``, the step ``eta1``, and every dictionary in
    ``conv`` but number 1. ``num_batches_tracked`` is filled in where old files lack it.

    Raises:
        CheckpointError: ``conv`` holds no dictionary number 1.
    """
    mapped: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == "eta1" or key.startswith("mnet."):
            continue
        if key == "conv":
            if tensor.ndim != 5 or tensor.shape[0] <= _SHARED_DICTIONARY:
                raise CheckpointError(
                    f"'conv' of an RCDNet checkpoint holds dictionaries of shape (S-1, 3, maps, 9, 9) with S of at "
                    f"least 3, of which number 1 is used (got {tuple(tensor.shape)}): it is another network"
                )
            mapped["dictionary.kernels"] = tensor[_SHARED_DICTIONARY].clone()
        else:
            mapped[_renamed(key)] = tensor
    if "eta2" in mapped and "eta12" in mapped:
        mapped["image_steps"] = torch.cat([mapped.pop("eta2"), mapped.pop("eta12").flatten()])
    if "map_steps" in mapped:
        mapped["map_steps"] = mapped["map_steps"].flatten()
    for key in [key for key in mapped if key.endswith("running_mean")]:
        mapped.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return mapped


def _renamed(key: str) -> str:
    if key in _OFFICIAL_PLAIN:
        return _OFFICIAL_PLAIN[key]
    match = re.fullmatch(r"(xnet|fxnet|x_stage|m_stage)(\.\d+)?\.(?:tau|res[xm]([1-9])\.([0134])\.(\w+))", key)
    if match is None:
        return key
    net, stage, block, layer, kind = match.groups()
    prefix = f"{_OFFICIAL_NETS[net]}{stage or ''}"
    if block is None:
        return f"{prefix}.threshold"
    return f"{prefix}.blocks.{int(block) - 1}.{_OFFICIAL_LAYERS[layer]}.{kind}"


PAGE = ModelPage(
    blocks=(
        ("dual filter", "conv 3 -> N, 3x3, starts as a mean filter: dual channels Z_0"),
        ("proximal net on [O, Z_0]", "4 residual blocks at N + 3 channels: B_0 and Z"),
        ("rain maps", "M = prox(K_0^T ReLU(O - B_0 - tau)), later prox(M - e K^T (K M - (O - B))); 9x9 dictionaries"),
        ("proximal net of M", "4 residual blocks at N channels, then ReLU(m - tau) with tau for each channel"),
        ("background", "B, Z = prox([B - e' (B - (O - K M)), Z]), 4 residual blocks at N + 3 channels"),
        ("residual block", "ReLU(x + attention(BN(conv(ReLU(BN(conv(x)))))))"),
        ("end", "one more proximal net on [B, Z]; its first three channels are the image"),
    ),
    choices=(
        (
            "The authors' class holds S - 1 dictionaries but reads only number 1; it also holds a net and a step size "
            "that it never uses. With S = 1 or 2 it cannot run.",
            "One shared dictionary and nothing unused: every S >= 1 works. The count as published stands beside ours.",
        ),
        (
            'Widths of the stage ablation ("around 3M").',
            "Rain maps = dual channels = N, sized to 3.0M in this layout: 99, 81, 70, 57, 46, 38, 32 for 1, 2, 3, 5, "
            "8, 12, 17 stages (`width=None`).",
        ),
        (
            'Place of the attention modules: "after each conv block".',
            "At the end of each residual branch, before the sum, in every proximal net.",
        ),
        ("Reduction of the attention modules.", "4, as in the benchmark's ensemble; SE without biases, as there."),
        (
            "CBAM's code has BatchNorm behind the 7x7 convolution, its equations have not.",
            "The equations.",
        ),
        ("Selective kernels use 32 groups, which do not divide 35 channels.", "1 group."),
        (
            "Shipped initial kernels have random width and amplitude.",
            "The deterministic form of the authors' generator; other counts than 32 take lengths at even distances.",
        ),
    ),
    remarks=(
        "0..255 inside. For export BatchNorm is folded, dictionaries, steps and thresholds become constants, "
        "transposed convolutions become plain ones, and the factor moves into biases and thresholds; attention modules "
        "get their own units back in front of every sigmoid, softmax and LayerNorm.",
    ),
)
