"""Options that say how attacks by gradients run their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli.options import stacked

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.app.crafting import Crafting

F = TypeVar("F", bound="Callable[..., Any]")


def crafting_options(command: F) -> F:
    """Adds the options; `crafting_request` belongs to them."""
    return stacked(
        command,
        click.option(
            "--craft-dtype",
            type=click.Choice(["fp32", "bf16"]),
            default="fp32",
            show_default=True,
            help="bf16 searches on a bfloat16 copy of the source, faster where the CPU or GPU has it; fp32 scores.",
        ),
        click.option(
            "--checkpointing",
            is_flag=True,
            help="Activation checkpointing: recompute the source's activations. Less memory, more time, same gradient.",
        ),
        click.option(
            "--tile",
            type=click.IntRange(min=16),
            metavar="PIXELS",
            help="Run the source in tiles with a halo; for networks without global pooling, others are refused.",
        ),
        click.option("--cuda-graph", is_flag=True, help="Capture the source's kernels once for each shape (CUDA)."),
    )


def crafting_request(options: dict[str, Any]) -> Crafting:
    """What the options ask for, which are taken out; the default where the command has none.

    Raises:
        UsageError: They contradict each other.
    """
    from deploy_robust.app.crafting import Crafting

    return Crafting(
        dtype=options.pop("craft_dtype", "fp32"),
        checkpointing=options.pop("checkpointing", False),
        tile=options.pop("tile", None),
        cuda_graph=options.pop("cuda_graph", False),
    )
