"""Normalisations: by stored statistics, or by those of the image itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


@operator("BatchNormalization", ignores=("momentum",))  # of the running statistics, which are refused
def batch_norm(node: Node) -> Compute:
    """By stored statistics, or, in training mode, by those of the batch."""
    eps, training = node.attributes.get("epsilon", 1e-5), bool(node.attributes.get("training_mode", 0))
    if any(node.outputs[1:]):
        raise node.refused("running statistics as outputs")

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        if training:
            return F.batch_norm(x, None, None, scale, bias, training=True, eps=eps)
        return F.batch_norm(x, mean, var, scale, bias, training=False, eps=eps)

    return run


@operator("InstanceNormalization")
def instance_norm(node: Node) -> Compute:
    """Each channel of each image by itself."""
    eps = node.attributes.get("epsilon", 1e-5)
    return lambda x, scale, bias: F.group_norm(x, x.shape[1], scale, bias, eps)


@operator("GroupNormalization")
def group_norm(node: Node) -> Compute:
    """Groups of channels; scale and bias are given for each group before opset 21, for each channel since."""
    _refuse_other_sums(node)
    eps, groups = node.attributes.get("epsilon", 1e-5), node.attributes["num_groups"]

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if scale.numel() != x.shape[1]:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return F.group_norm(x, groups, scale, bias, eps)

    return run


@operator("LayerNormalization")
def layer_norm(node: Node) -> Compute:
    """Over all axes from ``axis`` on."""
    _refuse_other_sums(node)
    axis, eps = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    if any(node.outputs[1:]):
        raise node.refused("mean and deviation as outputs")

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis % x.dim() :]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return F.layer_norm(x, shape, scale, bias, eps)
        normal = F.layer_norm(x, shape, eps=eps) * scale
        return normal if bias is None else normal + bias

    return run


@operator("RMSNormalization")
def rms_norm(node: Node) -> Compute:
    """By the root mean square over all axes from ``axis`` on."""
    _refuse_other_sums(node)
    axis, eps = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor) -> Tensor:
        over = list(range(axis % x.dim(), x.dim()))
        return x * torch.rsqrt(x.square().mean(over, keepdim=True) + eps) * scale

    return run


@operator("LpNormalization")
def lp_norm(node: Node) -> Compute:
    """By the norm along one axis; zeros stay zeros."""
    axis, p = node.attributes.get("axis", -1), node.attributes.get("p", 2)

    def run(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return run


def _refuse_other_sums(node: Node) -> None:
    """Raises ArtefactError where mean and deviation are computed in another type than float32."""
    import onnx

    if node.attributes.get("stash_type", onnx.TensorProto.FLOAT) != onnx.TensorProto.FLOAT:
        raise node.refused("attribute stash_type, other than float32")
