"""The parts of one MPRNet: U-Net encoder and decoder, supervised attention, and the full-resolution network."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import nn

from deploy_robust.models.blocks import AttentionBlock, BlockChain, Down, Up, conv1x1, conv3x3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class ShallowFeatures(nn.Module):
    """First features of an image: one convolution and one attention block; (N, 3, H, W) to (N, C, H, W)."""

    def __init__(self, width: int, block: Callable[[int], AttentionBlock]) -> None:
        super().__init__()
        self.conv = conv3x3(3, width)
        self.block = block(width)

    def forward(self, image: Tensor, slope: Tensor) -> Tensor:
        """See the class."""
        answer: Tensor = self.block(self.conv(image), slope)
        return answer


class Encoder(nn.Module):
    """Attention blocks at falling sizes; with cross-stage fusion it also takes the features of the stage before.

    Args:
        widths: Channels of each level.
        length: Attention blocks in a level.
        block: Builds an attention block of a width.
        fused: Whether the features of an earlier stage are added in (CSFF in the paper).
    """

    def __init__(
        self, widths: Sequence[int], length: int, block: Callable[[int], AttentionBlock], *, fused: bool
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(BlockChain(width, length, block) for width in widths)
        self.downs = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(widths))
        fusing = widths if fused else ()
        self.from_encoder = nn.ModuleList(conv1x1(width, width) for width in fusing)
        self.from_decoder = nn.ModuleList(conv1x1(width, width) for width in fusing)

    def forward(
        self, x: Tensor, slope: Tensor, encoded: Sequence[Tensor] = (), decoded: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Features (N, C_l, H / 2**l, W / 2**l) of each level l, finest first.

        Args:
            x: (N, C_0, H, W).
            slope: Slope of every PReLU, (1,).
            encoded: Encoder features of the stage before, as returned here; needed where fused.
            decoded: Its decoder features.
        """
        features: list[Tensor] = []
        for k, level in enumerate(self.levels):
            x = level(self.downs[k - 1](x) if k else x, slope)
            if len(self.from_encoder) > 0:
                x = x + self.from_encoder[k](encoded[k]) + self.from_decoder[k](decoded[k])
            features.append(x)
        return features


class Decoder(nn.Module):
    """Attention blocks at rising sizes; the encoder's features come in through one attention block each."""

    def __init__(self, widths: Sequence[int], length: int, block: Callable[[int], AttentionBlock]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(BlockChain(width, length, block) for width in widths)
        self.skips = nn.ModuleList(block(width) for width in widths[:-1])
        self.ups = nn.ModuleList(Up(b, a) for a, b in itertools.pairwise(widths))

    def forward(self, encoded: Sequence[Tensor], slope: Tensor) -> list[Tensor]:
        """Features of each level, finest first, in the shapes of `encoded`."""
        x = self.levels[-1](encoded[-1], slope)
        features = [x]
        for k in reversed(range(len(self.skips))):
            x = self.levels[k](self.ups[k](x) + self.skips[k](encoded[k], slope), slope)
            features.insert(0, x)
        return features


class SupervisedAttention(nn.Module):
    """Makes the image of a stage and lets it say which features go on to the next (SAM in the paper)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = conv1x1(width, width)
        self.image = conv1x1(width, 3)
        self.gate = conv1x1(3, width)

    def forward(self, features: Tensor, rainy: Tensor) -> tuple[Tensor, Tensor]:
        """Features for the next stage (N, C, H, W) and this stage's image (N, 3, H, W)."""
        image = self.image(features) + rainy
        return self.features(features) * torch.sigmoid(self.gate(image)) + features, image


class FullResolution(nn.Module):
    """Attention blocks at full size, fed after each group by one level of the U-Net (ORSNet in the paper).

    Args:
        width: Channels of its own features.
        unet_widths: Channels of each level of the U-Net: one group of blocks for each.
        length: Attention blocks in a group.
        block: Builds an attention block of a width.
    """

    def __init__(
        self, width: int, unet_widths: Sequence[int], length: int, block: Callable[[int], AttentionBlock]
    ) -> None:
        super().__init__()
        self.groups = nn.ModuleList(BlockChain(width, length, block) for _ in unet_widths)
        self.group_ends = nn.ModuleList(conv3x3(width, width) for _ in unet_widths)
        self.encoder_ups, self.decoder_ups = _risers(unet_widths), _risers(unet_widths)
        self.from_encoder = nn.ModuleList(conv1x1(unet_widths[0], width) for _ in unet_widths)
        self.from_decoder = nn.ModuleList(conv1x1(unet_widths[0], width) for _ in unet_widths)

    def forward(self, x: Tensor, encoded: Sequence[Tensor], decoded: Sequence[Tensor], slope: Tensor) -> Tensor:
        """(N, C, H, W) and the U-Net's features of each level, to (N, C, H, W)."""
        for k, (group, end) in enumerate(zip(self.groups, self.group_ends, strict=True)):
            x = x + end(group(x, slope))
            x = x + self.from_encoder[k](self.encoder_ups[k](encoded[k]))
            x = x + self.from_decoder[k](self.decoder_ups[k](decoded[k]))
        return x


def _risers(widths: Sequence[int]) -> nn.ModuleList:
    """For each level the steps that bring its features to the size and width of the finest."""
    return nn.ModuleList(
        nn.Sequential(*(Up(widths[k], widths[k - 1]) for k in range(level, 0, -1))) for level in range(len(widths))
    )
