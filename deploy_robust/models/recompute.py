"""Activation checkpointing: forget what a part computed and compute it again for the gradient (arXiv:1604.06174)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_LEAST = 2
"""Weighted layers that a part holds at the least."""

_APART = 4
"""A part around other parts holds so many times the layers of the largest: each level costs one more forward pass."""


def recompute(network: nn.Module) -> tuple[str, ...]:
    """Lets a network keep the inputs of its parts alone until the backward pass; gradients stay as they are.

    Parts are found from the tree of modules: small ones of a few layers, and larger ones around them, so that memory
    falls at each level. The network is changed in place, and a copy made of it afterwards would share its parts.

    Args:
        network: Any module; the calls of its submodules are what can be recomputed.

    Returns:
        Names of the parts; empty where the network has none, so that nothing is saved.
    """
    parts = tuple(_parts(network))
    for name in parts:
        part = network.get_submodule(name)
        part.forward = _recomputed(part.forward)
    return parts


def _parts(network: nn.Module) -> Iterator[str]:
    """Innermost first; the network itself is none, as recomputing all of it at once saves nothing."""
    largest: dict[str, int] = {}
    names = sorted((name for name, _ in network.named_modules() if name), key=lambda name: -name.count("."))
    for name in names:
        module = network.get_submodule(name)
        below = max((largest[f"{name}.{child}"] for child, _ in module.named_children()), default=0)
        layers = sum(_is_layer(each) for each in module.modules())
        # A list of modules is never called.
        if layers >= max(_LEAST, _APART * below) and not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            largest[name] = layers
            yield name
        else:
            largest[name] = below


def _is_layer(module: nn.Module) -> bool:
    return not any(module.children()) and any(True for _ in module.parameters(recurse=False))


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        if not (torch.is_grad_enabled() and any(x.requires_grad for x in _tensors((*given, *named.values())))):
            return forward(*given, **named)
        return checkpoint(forward, *given, use_reentrant=False, preserve_rng_state=False, **named)

    return run


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
