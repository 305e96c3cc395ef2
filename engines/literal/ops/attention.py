"""ONNX's Attention (opset 23) in its plain form: queries, keys, values and an optional mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute


@operator("Attention")
def attention(node: Node) -> Compute:
    """Four dimensions, (N, heads, length, width), without cache, soft cap or further outputs."""
    if any(node.inputs[4:]) or any(node.outputs[1:]):
        raise node.refused("a cache of keys and values, or further outputs")
    for key in ("softcap", "qk_matmul_output_mode", "q_num_heads", "kv_num_heads"):
        if node.attributes.get(key):
            raise node.refused(f"attribute {key}")
    if node.attributes.get("softmax_precision", 1) != 1:  # ONNX's number of float32
        raise node.refused("attribute softmax_precision, other than float32")
    causal, scale = bool(node.attributes.get("is_causal", 0)), node.attributes.get("scale")
    if causal and len(node.inputs) > 3 and node.inputs[3]:
        raise node.refused("is_causal together with a mask")

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
        )

    return run
