"""Options that judge an engine on a stored adversarial set, and by outputs that were recorded elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from deploy_robust.cli.options import FILE, stacked
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.pairs import PairsRequest

F = TypeVar("F", bound="Callable[..., Any]")

_SETTLED = ("data", "limit", "size", "crop", "crop_at", "unpaired", "labels", "seed")
"""Parameters that a set has settled when it was crafted."""

_RUNS_HERE = (
    *("engine_kind", "engine_provider", "engine_arithmetic", "engine_compute", "engine_vouched"),
    *("io_output_range", "io_dtype", "io_batch"),
)
"""Parameters that say how an engine runs here; `_GRAPH` ones say how its graph takes images."""

_GRAPH = ("io_range", "io_layout", "io_colour", "io_mean", "io_std", "io_size", "io_multiple", "io_file")


def set_options(command: F) -> F:
    """Adds the options; `set_pairs` and `refuse_contradictions` belong to them."""
    return stacked(
        command,
        click.option(
            "--adversarial",
            type=FILE,
            metavar="SET",
            help="Judge on a set that `attack` has stored, instead of crafting attacks.",
        ),
        click.option(
            "--outputs",
            type=FILE,
            metavar="DIR",
            help="Outputs to that set's images, recorded where the engine runs; no engine runs here.",
        ),
    )


def set_pairs(adversarial: Path) -> PairsRequest:
    """The pairs of a set; what it has settled may not be given again.

    Raises:
        UsageError: It was.
    """
    from deploy_robust.app.pairs import PairsRequest

    if given := _given(_SETTLED):
        raise UsageError(f"{given} was settled when the set was crafted: leave it out with --adversarial")
    return PairsRequest(what=str(adversarial), adversarial=True)


def refuse_contradictions(engine: Path | None, adversarial: Path | None, outputs: Path | None) -> None:
    """Refuses options that do not go together.

    Raises:
        UsageError: They are there; the message says which.
    """
    if outputs is None:
        if engine is None:
            raise UsageError(
                "no engine is named: give --engine FILE, or --adversarial SET --outputs DIR for outputs that were "
                "recorded elsewhere (see check --help)"
            )
        return
    if adversarial is None:
        raise UsageError("--outputs are answers to the images of a set: name it with --adversarial SET")
    if given := _given(_RUNS_HERE):
        raise UsageError(f"{given} says how an engine runs, and with --outputs none runs here: leave it out")
    if engine is None and (given := _given(_GRAPH)):
        raise UsageError(f"{given} says how an artefact takes images: name it with --engine, or leave it out")


def _given(names: tuple[str, ...]) -> str:
    """The first of these parameters that was typed, as an option; empty where none was."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT:
            return parameter.opts[0]
    return ""
