"""Families of operators; importing this package fills the table."""

from deploy_robust.engines.literal.ops import (
    attention,
    constants,
    convolution,
    elementwise,
    indexing,
    linear,
    normalisation,
    pooling,
    reductions,
    resizing,
    sampling,
    shaping,
)

__all__ = [
    "attention",
    "constants",
    "convolution",
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "pooling",
    "reductions",
    "resizing",
    "sampling",
    "shaping",
]
