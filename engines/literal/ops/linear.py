"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deploy_robust.engines.literal.operators import operator, plain

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

plain({"MatMul": torch.matmul})


@operator("Gemm")
def gemm(node: Node) -> Compute:
    """``alpha * A @ B + beta * C``, with A and B transposed on request."""
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    flip_a, flip_b = node.attributes.get("transA", 0), node.attributes.get("transB", 0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.T if flip_a else a, b.T if flip_b else b)
        if alpha != 1.0:
            product = product * alpha
        return product if c is None else product + (c if beta == 1.0 else c * beta)

    return run


@operator("Einsum")
def einsum(node: Node) -> Compute:
    """Einstein's convention, as numpy and torch write it."""
    equation = node.attributes["equation"]
    return lambda *operands: torch.einsum(equation, *operands)
