"""ONNX graphs interpreted in torch: the graph's own arithmetic, node by node, with gradients.

Read in this order: `graph` (file to nodes), `program` (nodes to steps), `quantisers` and `rounding` (where literal
differs from convenient), `ops` (one file for each family of operators), `watch` (how large values become), `engine`.
"""

from deploy_robust.engines.literal.engine import KIND, LiteralEngine

__all__ = ["KIND", "LiteralEngine"]
