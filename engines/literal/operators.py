"""The table of operators: what a graph's node becomes. A new operator is one function with one decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node

Compute = Callable[..., Any]
"""Tensors in, one for each input of the node and None for one left out; a tensor out, or a tuple of them."""

Build = Callable[["Node"], Compute]
"""Reads a node's attributes once and returns what runs; refuses what is not covered."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator type.

    Attributes:
        build: Makes the function of a node.
        moves: Whether it only moves or selects values, so that narrow types need no rounding and codes stay codes.
        host: Inputs that are sizes or axes, needed as Python numbers.
        ignores: Attributes that change nothing in what is computed; all others that `build` does not read are refused.
    """

    build: Build
    moves: bool
    host: tuple[int, ...]
    ignores: frozenset[str] = frozenset()


OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str, moves: bool = False, host: tuple[int, ...] = (), ignores: tuple[str, ...] = ()
) -> Callable[[Build], Build]:
    """Registers the builder of one or more operator types; the arguments are those of `Operator`."""

    def register(build: Build) -> Build:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"operator {name} is registered twice")
            OPERATORS[name] = Operator(build, moves, host, frozenset(ignores))
        return build

    return register


def plain(functions: dict[str, Compute], *, moves: bool = False) -> None:
    """Registers operators without attributes."""
    for name, function in functions.items():
        operator(name, moves=moves)(lambda node, function=function: function)  # type: ignore[misc]  # noqa: ARG005


def ints(tensor: Tensor) -> list[int]:
    """The whole numbers in a tensor of sizes or axes."""
    found = tensor.tolist()
    return [int(n) for n in found] if isinstance(found, list) else [int(found)]
