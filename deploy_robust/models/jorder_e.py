"""JORDER-E: W. Yang et al., "Joint Rain Detection and Removal from a Single Image with Contextualized Deep Networks".

IEEE TPAMI 42(6), 2020; arXiv:1609.07769 (conference version).
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.folding import PIXEL_UNIT, FoldedNetwork, change_units
from deploy_robust.models.layers import same_conv
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

PATHS = {1: (1, 1), 2: (2, 2), 3: (2, 4)}
"""Dilations of the two convolutions of a path, under the name that the paper gives to the path."""

MASK_CLASSES = 2
LEVEL_CHANNELS = 3
_ESTIMATOR_WIDTH = 8
_MODULATION_WIDTH = 16
_SIDE_PATH_WEIGHT = 0.1


class ContextBlock(nn.Module):
    """``x + path_1(x) + 0.1 * path_2(x) + 0.1 * path_3(x)``, paths of two dilated convolutions with ReLU each.

    Args:
        width: Channels C.
        paths: Names of the paths, keys of `PATHS`.
    """

    def __init__(self, width: int, paths: Sequence[int]) -> None:
        super().__init__()
        self.paths = nn.ModuleDict(
            {
                str(path): nn.Sequential(
                    same_conv(width, width, dilation=PATHS[path][0]),
                    nn.ReLU(),
                    same_conv(width, width, dilation=PATHS[path][1]),
                    nn.ReLU(),
                )
                for path in paths
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = x
        for name, path in self.paths.items():
            answer = path(x)
            y = y + (answer if name == "1" else _SIDE_PATH_WEIGHT * answer)
        return y


class Modulation(nn.Module):
    """Side information (N, K, H, W) to a map of the features' width: conv, ReLU, conv.

    Args:
        channels: K.
        width: Channels C of the map.
        multiplies: The map multiplies features, so that it starts as 1 everywhere; otherwise it is added.
    """

    def __init__(self, channels: int, width: int, *, multiplies: bool) -> None:
        super().__init__()
        self.multiplies = multiplies
        self.conv1 = same_conv(channels, _MODULATION_WIDTH)
        self.conv2 = same_conv(_MODULATION_WIDTH, width)
        if multiplies:
            nn.init.zeros_(self.conv2.weight)
            nn.init.ones_(self.conv2.bias)  # type: ignore[arg-type]  # same_conv has a bias

    def forward(self, information: Tensor) -> Tensor:
        """(N, K, H, W) to (N, C, H, W)."""
        answer: Tensor = self.conv2(torch.relu(self.conv1(information)))
        return answer


class SideBranch(nn.Module):
    """Estimates one kind of side information from the features, and feeds it back as a factor and as a term.

    Args:
        width: Channels C of the features.
        channels: Channels K of the estimate.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.estimator1 = same_conv(width, _ESTIMATOR_WIDTH)
        self.estimator2 = same_conv(_ESTIMATOR_WIDTH, channels)
        self.factor = Modulation(channels, width, multiplies=True)
        self.term = Modulation(channels, width, multiplies=False)

    def estimate(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H, W); no activation anywhere."""
        answer: Tensor = self.estimator2(self.estimator1(features))
        return answer


@dataclass(frozen=True, slots=True)
class StageOutputs:
    """What a stage hands to the next and to the loss, in 0..255 units.

    Attributes:
        image: Derained image, (N, 3, H, W).
        features: Output of every context block, each (N, C, H, W).
        mask: Logits of the rain mask, (N, 2, H, W); None without a mask branch.
        level: Estimate of clean minus rainy, (N, 3, H, W).
    """

    image: Tensor
    features: list[Tensor]
    mask: Tensor | None
    level: Tensor


class Stage(nn.Module):
    """One pass of joint detection and removal; see `JorderE` for the arguments."""

    def __init__(self, width: int, blocks: int, paths: Sequence[int], *, mask_branch: bool) -> None:
        super().__init__()
        self.encoder = same_conv(6, width)
        self.blocks = nn.ModuleList(ContextBlock(width, paths) for _ in range(blocks))
        self.mask = SideBranch(width, MASK_CLASSES) if mask_branch else None
        self.level = SideBranch(width, LEVEL_CHANNELS)
        self.decoder1 = same_conv(width, width)
        self.decoder2 = same_conv(width, 3)

    def forward(self, rainy: Tensor, image: Tensor, previous: StageOutputs | None) -> StageOutputs:
        """Improves `image`, (N, 3, H, W) in 0..255 units; `previous` is the stage before, None in the first."""
        x = self.encoder(torch.cat([rainy, image], dim=1))
        features: list[Tensor] = []
        for k, block in enumerate(self.blocks):
            x = block(x)
            if previous is not None:
                x = x + previous.features[k]
            features.append(x)

        level = self.level.estimate(x)
        if previous is not None:
            level = level + previous.level
        if self.mask is None:
            mask = None
            added = x + self.level.term(level)
            modulated = x * self.level.factor(level)
        else:
            mask = self.mask.estimate(x)
            if previous is not None and previous.mask is not None:
                mask = mask + previous.mask
            added = x + self.mask.term(mask) + self.level.term(level)
            modulated = self.mask.factor(mask) * x * self.level.factor(level)
        return StageOutputs(self.decoder2(self.decoder1(added + modulated)) + rainy, features, mask, level)


class JorderE(Derainer):
    """Two stages that estimate where it rains and how much, and remove it with context of several receptive fields.

    Stage 1 sees [O, O] and stage 2 sees [O, x_1]; each block of stage 2 also adds the output of the same block of stage
    1, and mask and level of stage 2 are corrections to those of stage 1. Both end in ``decoder(...) + O``. Any height
    and width; 0..255 inside.

    `training_outputs` gives the stages x_1, x_2 and the extras ``level`` (N, 3, H, W), the estimate of clean minus
    rainy in [0, 1] units, and, with a mask branch, ``mask`` (N, 2, H, W), logits for `side_information`'s mask.

    Args:
        width: Channels C of the features; 64 as published, 32 in the published "practical" weights.
        blocks: Context blocks in each stage; 9 as published, 3 in the "practical" weights.
        dilations: Which paths each block has, by the paper's names: (1,), (1, 2) or (1, 2, 3).
        mask_branch: Whether the mask is estimated and fed back at all; leaving out its *loss* is the trainer's
            business.
    """

    def __init__(
        self, *, width: int = 64, blocks: int = 9, dilations: Sequence[int] = (1, 2, 3), mask_branch: bool = True
    ) -> None:
        if width < 1 or blocks < 1:
            raise UsageError(f"JORDER-E needs width and blocks of at least 1 (got {width} and {blocks})")
        if tuple(dilations) not in {(1,), (1, 2), (1, 2, 3)}:
            raise UsageError(f"JORDER-E's dilations are (1,), (1, 2) or (1, 2, 3) (got {tuple(dilations)})")
        super().__init__()
        self.stage1 = Stage(width, blocks, dilations, mask_branch=mask_branch)
        self.stage2 = Stage(width, blocks, dilations, mask_branch=mask_branch)

    def _stages(self, rainy: Tensor) -> tuple[StageOutputs, StageOutputs]:
        first = self.stage1(rainy, rainy, None)
        return first, self.stage2(rainy, first.image, first)

    def native(self, rainy: Tensor) -> Tensor:
        """x_2 in the network's own units."""
        return self._stages(rainy)[1].image

    def forward(self, x: Tensor) -> Tensor:
        """x_2, (N, 3, H, W), unclamped."""
        return self.native(x * PIXEL_UNIT) / PIXEL_UNIT

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Both images and the second stage's side information; see the class."""
        first, second = self._stages(x * PIXEL_UNIT)
        extras = {"level": second.level / PIXEL_UNIT}
        if second.mask is not None:
            extras["mask"] = second.mask
        return TrainingOutputs([first.image / PIXEL_UNIT, second.image / PIXEL_UNIT], extras)

    def for_export(self) -> nn.Module:
        """The same network in [0, 1] units: every layer is homogeneous but the factors, which have no unit."""
        twin = copy.deepcopy(self)
        for module in twin.modules():
            if isinstance(module, nn.Conv2d):
                change_units(module, PIXEL_UNIT, PIXEL_UNIT)
        for module in twin.modules():
            if isinstance(module, Modulation) and module.multiplies:
                # Its last layer was moved to x / 255 -> y / 255 above; x / 255 -> y is wanted.
                change_units(module.conv2, 1.0, 1 / PIXEL_UNIT)
        return FoldedNetwork(twin)


def side_information(rainy: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Targets of the side information, as the authors' code makes them.

    Class 1 of the mask is where the *clean* image is brighter in the red channel, the opposite of rain; the logits are
    symmetric, so that only the name of the class depends on it, and official weights keep their meaning.

    Args:
        rainy: (N, 3, H, W) in [0, 1].
        clean: Ground truth of the same shape.

    Returns:
        ``mask`` (N, H, W) int64, class indices for a cross-entropy, and ``level`` (N, 3, H, W), clean minus rainy.
    """
    level = clean - rainy
    return {"mask": (level[:, 0] > 0).long(), "level": level}


_OFFICIAL_LAYERS = {
    "encoder": "encoder",
    "decoder.0": "decoder1",
    "decoder.1": "decoder2",
    **{f"{kind}_estimator{k}": f"{kind}.estimator{k}" for kind in ("mask", "level") for k in (1, 2)},
    **{f"{kind}_F_w_encoder{k}": f"{kind}.factor.conv{k}" for kind in ("mask", "level") for k in (1, 2)},
    **{f"{kind}_F_b_encoder{k}": f"{kind}.term.conv{k}" for kind in ("mask", "level") for k in (1, 2)},
}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the keys of the authors' checkpoints; unknown keys keep their names, and nothing is dropped."""
    return {_renamed(key): tensor for key, tensor in state.items()}


def _renamed(key: str) -> str:
    match = re.fullmatch(r"jorder([12])\.(.+)\.(weight|bias)", key)
    if match is None:
        return key
    stage, layer, kind = match.groups()
    if conv := re.fullmatch(r"updater\.res([1-9])\.conv([1-6])", layer):
        block, number = int(conv[1]) - 1, int(conv[2]) - 1
        return f"stage{stage}.blocks.{block}.paths.{number // 2 + 1}.{2 * (number % 2)}.{kind}"
    return f"stage{stage}.{_OFFICIAL_LAYERS.get(layer, layer)}.{kind}"


PAGE = ModelPage(
    blocks=(
        ("encoder", "conv 6 -> C on [O, O] (stage 1) or [O, x1] (stage 2)"),
        (
            "9 context blocks",
            "x + p1(x) + 0.1 p2(x) + 0.1 p3(x); each path two 3x3 convs with ReLU, dilations (1,1), (2,2), (2,4); "
            "stage 2 adds the output of the same block of stage 1",
        ),
        ("mask estimator", "conv C -> 8, conv 8 -> 2: logits; stage 2 adds those of stage 1"),
        ("level estimator", "conv C -> 8, conv 8 -> 3: clean minus rainy; stage 2 adds that of stage 1"),
        ("modulation", "features + MB(mask) + LB(level), and MW(mask) * features * LW(level); each conv, ReLU, conv"),
        ("decoder", "sum of both, conv C -> C, conv C -> 3, plus O"),
    ),
    choices=(
        (
            "The paper names dilations 1, 2, 3; the authors' code has (1,1), (2,2), (2,4), whose receptive fields are "
            "5, 9 and 13 pixels, as of factors 1, 2, 3.",
            "The code's dilations, under the paper's names (`dilations`).",
        ),
        (
            'Row "NO Mask" of the benchmark: loss term left out, or branch removed as well?',
            "Two switches: the loss term is the trainer's, the branch is `mask_branch`. For the row: term off, branch "
            "kept.",
        ),
        (
            "Receptive-field rows: re-widened to the same size?",
            'Not widened ("keeping others unchanged"): 2,839,616 and 1,510,208 parameters at width 64.',
        ),
        (
            "The sign of the mask target is the opposite of rain in the authors' code.",
            "Kept, so that official weights keep their meaning.",
        ),
        (
            "Benchmark and official network are the same; the only published weights are a smaller one.",
            "Presets `official` and `benchmark` are equal; `practical` fits the published weights.",
        ),
    ),
    remarks=(
        "0..255 inside. For export the factor moves into the biases: everything but the two multiplicative maps is "
        "homogeneous, and those take the factor in their last layer.",
    ),
)
