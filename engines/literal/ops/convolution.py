"""Conv and ConvTranspose, in one to three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv")
def conv(node: Node) -> Compute:
    """Paddings may differ on the two sides of an axis."""
    refuse_auto_pad(node)
    groups = node.attributes.get("group", 1)
    strides, dilations, pads = (node.attributes.get(key) for key in ("strides", "dilations", "pads"))

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        stride, dilation, around = strides or [1] * rank, dilations or [1] * rank, pads or [0] * (2 * rank)
        before, after = around[:rank], around[rank:]
        if before != after:
            x = F.pad(x, [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair])
            before = [0] * rank
        return _CONV[rank](x, weight, bias, stride, before, dilation, groups)

    return run


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Compute:
    """With symmetric padding."""
    refuse_auto_pad(node)
    if node.attributes.get("output_shape"):
        raise node.refused("output_shape")
    pads = node.attributes.get("pads")
    if pads and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        raise node.refused(f"asymmetric padding {pads}")
    groups = node.attributes.get("group", 1)
    strides, dilations, extra = (node.attributes.get(key) for key in ("strides", "dilations", "output_padding"))

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        padding = pads[:rank] if pads else [0] * rank
        ones, zeros = [1] * rank, [0] * rank
        return _TRANSPOSED[rank](x, weight, bias, strides or ones, padding, extra or zeros, groups, dilations or ones)

    return run


def refuse_auto_pad(node: Node) -> None:
    """Raises ArtefactError where the padding depends on the size of the image."""
    how = node.attributes.get("auto_pad", "NOTSET")
    if how not in ("NOTSET", "VALID"):
        raise node.refused(f"auto_pad {how}")
    if how == "VALID" and any(node.attributes.get("pads", ())):
        raise node.refused("auto_pad VALID with pads")
