"""UMRL: R. Yasarla, V. M. Patel, "Uncertainty Guided Multi-Scale Residual Learning Using a Cycle Spinning CNN".

CVPR 2019, arXiv:1906.11129.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.folding import fold_batch_norm
from deploy_robust.models.layers import same_conv
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Resize = Literal["down", "same", "up"]

_SLOPE = 0.2
_BOTTLENECK = 4
_CLEAN_WIDTH = 8


class Norm(nn.BatchNorm2d):
    """BatchNorm that may use each image's own statistics in evaluation mode instead of the running ones.

    Attributes:
        own_statistics: Whether it does. For a batch of one this is training-mode BatchNorm; rows of a batch never
            influence each other.
    """

    own_statistics = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.training or not self.own_statistics:
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, use_input_stats=True, eps=self.eps)


class DenseBlock(nn.Module):
    """``[x, conv(ReLU(BN(conv1x1(ReLU(BN(x))))))]``: (N, C, H, W) to (N, C + growth, H, W)."""

    def __init__(self, inputs: int, growth: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = Norm(inputs)
        self.conv1 = same_conv(inputs, _BOTTLENECK * growth, 1, bias=False)
        self.norm2: nn.Module = Norm(_BOTTLENECK * growth)
        self.conv2 = same_conv(_BOTTLENECK * growth, growth, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        y = self.norm2(self.conv1(torch.relu(self.norm1(x))))
        return torch.cat([x, self.conv2(torch.relu(y))], dim=1)


class Transition(nn.Module):
    """``conv1x1(ReLU(BN(x)))``, then half, the same or double size: mean of 2x2 or nearest neighbour."""

    def __init__(self, inputs: int, outputs: int, resize: Resize) -> None:
        super().__init__()
        self.resize = resize
        self.norm = Norm(inputs)
        self.conv = same_conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, H', W')."""
        y: Tensor = self.conv(torch.relu(self.norm(x)))
        if self.resize == "down":
            return F.avg_pool2d(y, 2)
        return F.interpolate(y, scale_factor=2.0, mode="nearest") if self.resize == "up" else y


class ResidualEstimator(nn.Module):
    """Rain of one scale from features, (N, 2C, H, W) to (N, 3, H, W) in -1..1; two scales share one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(DenseBlock(inputs, width, 3) for inputs in (2 * width, width, width))
        self.transition = nn.ModuleList(
            Transition(inputs, width, "same") for inputs in (3 * width, 2 * width, 2 * width)
        )
        self.refine = same_conv(width, width // 2)
        self.output = same_conv(width // 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """One scale."""
        for dense, transition in zip(self.dense, self.transition, strict=True):
            x = transition(dense(x))
        return torch.tanh(self.output(F.leaky_relu(self.refine(x), _SLOPE)))


class ConfidenceEstimator(nn.Module):
    """How far a rain estimate can be trusted: (N, C + 3, H, W) to (N, 3, H, W) in 0..1; three scales share one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv = same_conv(width + 3, half)
        self.dense = nn.ModuleList(DenseBlock(half, half, 3) for _ in range(2))
        self.transition = nn.ModuleList(Transition(width, half, "same") for _ in range(2))
        self.output = same_conv(half, 3)

    def forward(self, features: Tensor, residual: Tensor) -> Tensor:
        """One scale."""
        x = self.conv(torch.cat([features, residual], dim=1))
        for dense, transition in zip(self.dense, self.transition, strict=True):
            x = transition(dense(x))
        return torch.sigmoid(self.output(x))


class OutputHead(nn.Module):
    """conv, LeakyReLU, conv 3x3, tanh: (N, inputs, H, W) to (N, 3, H, W) in -1..1."""

    def __init__(self, inputs: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = same_conv(inputs, hidden, kernel)
        self.conv2 = same_conv(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        """One image."""
        return torch.tanh(self.conv2(F.leaky_relu(self.conv1(x), _SLOPE)))


@dataclass(frozen=True, slots=True)
class _Estimates:
    """What the multi-scale body gives: features at full size, rain and confidence at a quarter and at a half."""

    features: Tensor
    residual_quarter: Tensor
    confidence_quarter: Tensor
    residual_half: Tensor
    confidence_half: Tensor


class UMRL(Derainer):
    """An encoder and decoder of dense blocks that estimates rain at three scales, each gated by its own confidence.

    Rain at a quarter and at a half of the size goes up the decoder multiplied by its confidence; the image is
    ``clean-up(x - rain at full size)``. Heights and widths are multiples of 16; -1..1 inside.

    `training_outputs` gives one stage, the image, and the extras ``residual``, ``residual_half``, ``residual_quarter``
    (rain, in [0, 1] units), ``clean_half``, ``clean_quarter`` (images of the smaller scales in [0, 1], to be compared
    with ground truth resized by nearest neighbour) and ``confidence``, ``confidence_half``, ``confidence_quarter`` in
    0..1, each (N, 3, h, w).

    Args:
        width: Channels C, even, at least 4; 32 as published.
        batch_statistics: In evaluation mode, normalise each image by its own statistics instead of the running ones:
            what the authors' test script does with its batches of one image.
    """

    size_rule: ClassVar[SizeRule] = SizeRule(multiple=16)

    def __init__(self, *, width: int = 32, batch_statistics: bool = False) -> None:
        if width < 4 or width % 2:
            raise UsageError(f"UMRL needs an even width of at least 4 (got {width})")
        super().__init__()
        c, half = width, width // 2
        self.width, self.batch_statistics = width, batch_statistics
        # The decoder sees 2C features, from the half scale on with three channels of gated rain.
        dense = [
            (3, c - 3),
            (c, c),
            (c, c),
            (c, c),
            (c, c),
            (2 * c, c),
            (2 * c + 3, c),
            (2 * c + 3, half),
            (half, half),
        ]
        resizes: list[Resize] = ["down", "down", "down", "down", "up", "up", "up", "up", "same"]
        outputs = [c, c, c, c, c, c, c, half, half]
        self.dense = nn.ModuleList(DenseBlock(inputs, growth, 5) for inputs, growth in dense)
        self.transition = nn.ModuleList(
            Transition(inputs + growth, channels, resize)
            for (inputs, growth), channels, resize in zip(dense, outputs, resizes, strict=True)
        )
        self.residual = ResidualEstimator(c)
        self.confidence = ConfidenceEstimator(c)
        self.head = OutputHead(half, half, 3)
        self.clean_up = OutputHead(3, _CLEAN_WIDTH, 7)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, Norm):
                nn.init.normal_(module.weight, 1.0, 0.02)
                module.own_statistics = batch_statistics

    def _level(self, k: int, x: Tensor) -> Tensor:
        answer: Tensor = self.transition[k](self.dense[k](x))
        return answer

    def _estimates(self, x: Tensor) -> _Estimates:
        """The body; x is (N, 3, H, W) in -1..1."""
        x1 = self._level(0, x)  # 1/2
        x2 = self._level(1, x1)  # 1/4
        x3 = self._level(2, x2)  # 1/8
        up = self._level(4, self._level(3, x3))  # 1/16 and back to 1/8
        x4 = self._level(5, torch.cat([up, x3], dim=1))  # 1/4
        r4 = self.residual(torch.cat([x4, x2], dim=1))
        c4 = self.confidence(x4, r4)
        x5 = self._level(6, torch.cat([x4, x2, r4 * c4], dim=1))  # 1/2
        r2 = self.residual(torch.cat([x5, x1], dim=1))
        c2 = self.confidence(x5, r2)
        x6 = self._level(7, torch.cat([x5, x1, r2 * c2], dim=1))  # full size
        return _Estimates(self._level(8, x6), r4, c4, r2, c2)

    def forward(self, x: Tensor) -> Tensor:
        """The image, (N, 3, H, W) in [0, 1]; the confidence at full size and the side images are not computed."""
        x = 2 * x - 1
        image: Tensor = self.clean_up(x - self.head(self._estimates(x).features))
        return (image + 1) / 2

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """The image and everything that the loss compares; see the class."""
        x = 2 * x - 1
        body = self._estimates(x)
        residual = self.head(body.features)
        doubled = torch.cat([body.features, body.features], dim=1)
        # Nearest neighbour by 1/2 and 1/4 takes every second and fourth pixel.
        clean_half = self.clean_up(x[..., ::2, ::2] - body.residual_half)
        clean_quarter = self.clean_up(x[..., ::4, ::4] - body.residual_quarter)
        extras = {
            "residual": residual / 2,
            "residual_half": body.residual_half / 2,
            "residual_quarter": body.residual_quarter / 2,
            "clean_half": (clean_half + 1) / 2,
            "clean_quarter": (clean_quarter + 1) / 2,
            "confidence": self.confidence(doubled, residual),
            "confidence_half": body.confidence_half,
            "confidence_quarter": body.confidence_quarter,
        }
        return TrainingOutputs([(self.clean_up(x - residual) + 1) / 2], extras)

    def for_export(self) -> nn.Module:
        """The same network with BatchNorm folded where a convolution precedes it; the image's own statistics stay."""
        if self.batch_statistics:
            return self
        twin = copy.deepcopy(self).eval().requires_grad_(False)
        for module in twin.modules():
            if isinstance(module, DenseBlock) and isinstance(module.norm2, Norm):
                module.conv1 = fold_batch_norm(module.conv1, module.norm2)
                module.norm2 = nn.Identity()
        return twin

    @property
    def published_parameter_count(self) -> int:
        """The authors' class holds two norms, of 20 and 1 channels, and a convolution that it never uses."""
        half = self.width // 2
        return self.parameter_count + 2 * (20 + 1) + 9 * half * half + half


_OFFICIAL_LEVELS = ("1", "2", "3", "3_1", "3_2", "4", "5", "6", "6_1")
_OFFICIAL_HEADS = {
    "conv_refin": "head.conv1",
    "refine3": "head.conv2",
    "refineclean1": "clean_up.conv1",
    "refineclean2": "clean_up.conv2",
    "res_est.conv_refin": "residual.refine",
    "res_est.refine3": "residual.output",
    "conf_res.conv1": "confidence.conv",
    "conf_res.refine3": "confidence.output",
}
_UNUSED = ("batchnorm20.", "batchnorm1.", "conf_res.conv_refin.")


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Maps the authors' checkpoints to ours; unknown keys keep their names.

    Dropped, since the authors' network never reads them: ``batchnorm20``, ``batchnorm1`` and ``conf_res.conv_refin``.
    The 1x1 transposed convolutions of the transitions become convolutions: their first two axes change places.
    """
    mapped: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(_UNUSED):
            continue
        if "trans_block" in key and key.endswith("conv1.weight") and tensor.ndim == 4:
            mapped[_renamed(key)] = tensor.transpose(0, 1).contiguous()  # (in, out, 1, 1) to (out, in, 1, 1)
        else:
            mapped[_renamed(key)] = tensor
    return mapped


def _renamed(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    if layer in _OFFICIAL_HEADS:
        return f"{_OFFICIAL_HEADS[layer]}.{kind}"
    if match := re.fullmatch(r"(dense|trans)_block([\d_]+)\.(bn|conv)([12])", layer):
        block, level, what, number = match.groups()
        if level in _OFFICIAL_LEVELS:
            return f"{_inside(block, _OFFICIAL_LEVELS.index(level), what, number)}.{kind}"
    if match := re.fullmatch(r"(res_est|conf_res)\.(conv|trans_block)([123])\.(bn|conv)([12])", layer):
        net, block, level, what, number = match.groups()
        prefix, first = ("residual", 1) if net == "res_est" else ("confidence", 2)
        block = "trans" if block == "trans_block" else "dense"
        return f"{prefix}.{_inside(block, int(level) - first, what, number)}.{kind}"
    return key


def _inside(block: str, index: int, what: str, number: str) -> str:
    name = "norm" if what == "bn" else "conv"
    return f"transition.{index}.{name}" if block == "trans" else f"dense.{index}.{name}{number}"


PAGE = ModelPage(
    blocks=(
        (
            "dense block",
            "[x, conv kxk(ReLU(BN(conv 1x1(ReLU(BN(x))))))], bottleneck 4 x growth; k = 5 or 3",
        ),
        ("transition", "conv 1x1(ReLU(BN(x))), then mean of 2x2 (down), nearest x2 (up) or the same size"),
        ("encoder", "four dense blocks with transitions down: 1/2, 1/4, 1/8, 1/16"),
        ("decoder", "five dense blocks with transitions up and one at full size, with skips from the encoder"),
        ("rain estimate", "at 1/4 and 1/2: three dense blocks and transitions, two convs, tanh; shared by both scales"),
        ("confidence", "conv, two dense blocks and transitions, conv, sigmoid; shared by three scales; gates the rain"),
        ("head and clean-up", "rain at full size: conv, LeakyReLU, conv, tanh; image: the same with 7x7 on x - rain"),
    ),
    choices=(
        (
            "The authors' test script leaves BatchNorm in training mode with batches of one image.",
            "Running statistics by default; the image's own as the explicit preset `batch-statistics` "
            "(argument `batch_statistics`).",
        ),
        (
            "The script stretches every output to its own minimum and maximum.",
            "The fixed map (y + 1) / 2.",
        ),
        ("Whether the benchmark used cycle spinning (121 shifted passes).", "The plain network: one pass."),
        (
            "The class holds 2,362 values that it never uses, and 1x1 transposed convolutions.",
            "Unused ones are dropped (the count as published is given beside ours); the others are plain convolutions.",
        ),
        (
            "Half- and quarter-size inputs are arguments of the authors' network.",
            "Made inside by nearest neighbour, for the training outputs only: they do not influence the image.",
        ),
    ),
    remarks=(
        "The authors' JORDER weights on ten Rain100H pairs (norain-5, -15, ... -95; PSNR on RGB, 8 bits, 8 pixels "
        "shaved): 25.54 dB with each image's own statistics, 22.02 dB with the running ones; 1.4 to 6.9 dB worse on "
        "every one of them. The running statistics in that file are therefore not what its weights were used with.",
    ),
)
