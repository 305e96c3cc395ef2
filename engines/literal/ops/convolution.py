"""Conv, ConvTranspose and DeformConv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator
from deploy_robust.engines.literal.ops.windows import extents_of, padding_of, split, torch_order

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv", ignores=("kernel_shape",))  # the weight's shape says it
def conv(node: Node) -> Compute:
    """In one to three dimensions; paddings may differ on the two sides of an axis."""
    padding = padding_of(node)
    groups = node.attributes.get("group", 1)
    strides, dilations = (node.attributes.get(key) for key in ("strides", "dilations"))

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        before, after = padding.around(x.shape[2:], extents_of(weight.shape[2:], dilation), stride)
        if before != after:
            x = F.pad(x, torch_order(before, after))
            before = [0] * rank
        return _CONV[rank](x, weight, bias, stride, before, dilation, groups)

    return run


@operator("ConvTranspose", ignores=("kernel_shape",))
def conv_transpose(node: Node) -> Compute:
    """In one to three dimensions; the padding, or the size of the output, cuts the result on both sides."""
    padding, wanted = padding_of(node), node.attributes.get("output_shape")
    groups = node.attributes.get("group", 1)
    strides, dilations, extra = (node.attributes.get(key) for key in ("strides", "dilations", "output_padding"))

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = weight.dim() - 2
        ones, zeros = [1] * rank, [0] * rank
        stride, dilation, more = strides or ones, dilations or ones, extra or zeros
        before, after = (padding.pads or zeros * 2)[:rank], (padding.pads or zeros * 2)[rank:]
        if wanted or padding.same:
            extents = extents_of(weight.shape[2:], dilation)
            whole = [s * (n - 1) + e + m for s, n, e, m in zip(stride, x.shape[2:], extents, more, strict=True)]
            sides = wanted or [s * n for s, n in zip(stride, x.shape[2:], strict=True)]
            surplus = [side - target for side, target in zip(whole, sides, strict=True)]
            before, after = split([max(0, n) for n in surplus], padding.how)
            after = [side + min(0, n) for side, n in zip(after, surplus, strict=True)]  # what lacks is added behind
        if before == after:
            return _TRANSPOSED[rank](x, weight, bias, stride, before, more, groups, dilation)
        full = _TRANSPOSED[rank](x, weight, None, stride, zeros, more, groups, dilation)
        cut = F.pad(full, torch_order([-n for n in before], [-n for n in after]))
        return cut if bias is None else cut + bias.reshape(-1, *ones)

    return run


@operator("DeformConv", ignores=("kernel_shape",))
def deform_conv(node: Node) -> Compute:
    """In two dimensions, by torchvision; pixels between the given ones are bilinear, and zero outside the image."""
    from torchvision.ops import deform_conv2d

    get = node.attributes.get
    get("group"), get("offset_group")  # the shapes of weight and offset say them
    strides, dilations, pads = get("strides") or [1, 1], get("dilations") or [1, 1], get("pads") or [0] * 4
    if len(strides) != 2 or len(pads) != 4:
        raise node.refused("deformable convolution in other than two dimensions")
    before, after = pads[:2], pads[2:]

    def run(
        x: Tensor, weight: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        inside = before
        if before != after:
            x, inside = F.pad(x, torch_order(before, after)), [0, 0]
        found: Tensor = deform_conv2d(x, offset, weight, bias, tuple(strides), tuple(inside), tuple(dilations), mask)
        return found

    return run
