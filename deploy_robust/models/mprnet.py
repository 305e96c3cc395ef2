"""MPRNet: S. W. Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021.

arXiv:2102.02808.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.errors import UsageError
from deploy_robust.models.blocks import AttentionBlock, conv3x3, join_two, split_in_two
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.mprnet_keys import renamed, three_stages_key
from deploy_robust.models.mprnet_parts import Decoder, Encoder, FullResolution, ShallowFeatures, SupervisedAttention
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

INITIAL_SLOPE = 0.25


class ThreeStages(nn.Module):
    """One MPRNet: quarters of the image, then its halves, then the whole.

    Stage 1 runs a U-Net's encoder on four quarters and its decoder on the top and bottom halves; stage 2 runs an
    encoder on the halves and a decoder on the whole; stage 3 works at full size. Each stage's features feed the next.
    The equal patches of a stage are rows of one batch. No layer has a bias; one PReLU slope serves the whole network.

    Height and width are multiples of 8.

    Args:
        width: Channels of the finest level of the U-Nets.
        unet_step: Channels that each of the two coarser levels has more.
        full_step: Channels that stage 3 has more than `width`.
        level_blocks: Attention blocks in a level of a U-Net.
        group_blocks: Attention blocks in each of the three groups of stage 3.
        dilations: Of the branches of every attention block.
        branch_reduction: Of the branches after the first.
        attention: Name in `ATTENTIONS` of what ends every branch.

    Raises:
        UsageError: An argument is out of range, or the attention unknown.
    """

    def __init__(
        self,
        *,
        width: int,
        unet_step: int,
        full_step: int,
        level_blocks: int,
        group_blocks: int,
        dilations: Sequence[int],
        branch_reduction: int,
        attention: str,
    ) -> None:
        if min(width, level_blocks, group_blocks) < 1 or min(unet_step, full_step) < 0:
            raise UsageError(
                "MPRNet needs width, level_blocks and group_blocks of at least 1 and steps of at least 0 (got "
                f"{width}, {level_blocks} and {group_blocks}; {unet_step} and {full_step})"
            )
        super().__init__()
        block = functools.partial(
            AttentionBlock, dilations=dilations, branch_reduction=branch_reduction, attention=attention
        )
        widths = [width + k * unet_step for k in range(3)]
        full = width + full_step
        self.slope = nn.Parameter(torch.full((1,), INITIAL_SLOPE))
        self.shallow = nn.ModuleList(ShallowFeatures(width, block) for _ in range(3))
        self.encoders = nn.ModuleList(Encoder(widths, level_blocks, block, fused=stage == 2) for stage in (1, 2))
        self.decoders = nn.ModuleList(Decoder(widths, level_blocks, block) for _ in (1, 2))
        self.attentions = nn.ModuleList(SupervisedAttention(width) for _ in (1, 2))
        self.to_stage2 = conv3x3(2 * width, width)
        self.to_stage3 = conv3x3(2 * width, full)
        self.full_resolution = FullResolution(full, widths, group_blocks, block)
        self.tail = conv3x3(full, 3)

    def forward(self, rainy: Tensor) -> list[Tensor]:
        """The images of stages 1, 2 and 3, (N, 3, H, W) each, from one of that shape."""
        slope = self.slope
        halves = split_in_two(rainy, axis=-2)
        quarters = split_in_two(halves, axis=-1)

        encoded = self.encoders[0](self.shallow[0](quarters, slope), slope)
        encoded = [join_two(features, axis=-1) for features in encoded]
        decoded = self.decoders[0](encoded, slope)
        carried, image1 = self.attentions[0](decoded[0], halves)

        x = self.to_stage2(torch.cat([self.shallow[1](halves, slope), carried], dim=1))
        encoded = self.encoders[1](x, slope, encoded, decoded)
        encoded = [join_two(features, axis=-2) for features in encoded]
        decoded = self.decoders[1](encoded, slope)
        carried, image2 = self.attentions[1](decoded[0], rainy)

        x = self.to_stage3(torch.cat([self.shallow[2](rainy, slope), carried], dim=1))
        image3 = self.tail(self.full_resolution(x, encoded, decoded, slope)) + rainy
        return [join_two(image1, axis=-2), image2, image3]


class MPRNet(Derainer):
    """One `ThreeStages` network with squeeze-excitation multiplied, as published.

    `training_outputs` gives the images of stages 1, 2 and 3 and no extras; the paper supervises all three.

    Args:
        width: 40 as published (n_feat).
        unet_step: 20 as published (scale_unetfeats).
        full_step: 16 as published (scale_orsnetfeats).
        level_blocks: 2 as published.
        group_blocks: 8 as published (num_cab).
    """

    size_rule: ClassVar[SizeRule] = SizeRule(multiple=8)

    def __init__(
        self,
        *,
        width: int = 40,
        unet_step: int = 20,
        full_step: int = 16,
        level_blocks: int = 2,
        group_blocks: int = 8,
    ) -> None:
        super().__init__()
        self.network = ThreeStages(
            width=width,
            unet_step=unet_step,
            full_step=full_step,
            level_blocks=level_blocks,
            group_blocks=group_blocks,
            dilations=(1,),
            branch_reduction=1,
            attention="se-mul",
        )

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Stages 1, 2 and 3; see the class."""
        return TrainingOutputs(self.network(x))


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the keys of the authors' checkpoints; unknown keys keep their names.

    Raises:
        CheckpointError: The copies of the shared PReLU slope differ.
    """
    return renamed(state, lambda key: f"network.{three_stages_key(key)}")


PAGE = ModelPage(
    blocks=(
        ("channel attention block (CAB)", "x + SE(conv(PReLU(conv(x)))), 3x3 convs; SE multiplies, reduction 4"),
        ("shallow features", "conv 3 -> C, one CAB; one set for each stage"),
        ("encoder", "three levels of two CABs at C, C + u, C + 2u; between them mean of 2x2 and conv 1x1"),
        ("decoder", "the same upwards: bilinear x2, conv 1x1, plus the encoder's level through one CAB"),
        ("stage 1", "encoder on quarters, decoder on top and bottom halves"),
        ("stage 2", "encoder on halves, plus stage 1's features by 1x1 convs (CSFF); decoder on the whole"),
        ("supervised attention (SAM)", "image = conv(f) + O; f goes on as conv(f) * sigmoid(conv(image)) + f"),
        ("stage 3", "three groups of eight CABs and a conv at C + o, full size; each adds one level of stage 2"),
        ("end of stage 3", "conv C + o -> 3, plus O"),
    ),
    choices=(
        (
            "The authors' code halves sizes by rounding a quotient, which exporters freeze at the example's size.",
            "Whole-number halves; equal patches are rows of one batch.",
        ),
        (
            "Sizes that are not multiples of 8 fail in the authors' code.",
            "The size rule says 8; padding and cropping happen outside the network.",
        ),
        (
            "Halving by bilinear resizing.",
            "The mean of 2x2 pixels, which is the same for even sizes.",
        ),
        (
            "One PReLU slope, stored 55 times in the authors' files.",
            "Stored once; files whose copies differ are refused.",
        ),
        (
            "The benchmark trained its own weights of this network for each data set; they are not published.",
            "Presets `official` and `benchmark` are equal; the authors' weights are of mixed data (Rain13K).",
        ),
    ),
)
