"""Several engines on one command line, each with options of its own: ``FILE,name=candidate,runtime=openvino``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deploy_robust.cli.engine_options import engine_options, engine_request
from deploy_robust.cli.io_options import io_options, io_overrides
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from deploy_robust.app.compare import NamedEngine
    from deploy_robust.app.networks import SourceRequest

_KEY = re.compile(r"([a-z][a-z-]*)=")


@click.command()
@click.option("--name")
@engine_options
@io_options
def _engine() -> None:
    """What may be said of one engine: the options that `check` has for its own."""


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path))
@click.option("--model")
@click.option("--preset")
def _source() -> None:
    """What may be said of one source."""


def parse_engine(text: str, *, device: str, threads: int | None) -> NamedEngine:
    """The engine of ``FILE[,KEY=VALUE...]``; keys are ``name`` and the options of `check` for its engine.

    Args:
        text: What the user wrote.
        device: Torch device string.
        threads: Threads on the CPU; None leaves them to the runtime.

    Raises:
        UsageError: A key is unknown, or a value is not one of its.
    """
    from deploy_robust.app.compare import NamedEngine
    from deploy_robust.app.networks import EngineRequest

    file, options = _parsed("--engine", text, _engine)
    name: str | None = options.pop("name")
    io = io_overrides(options)
    how, kind = engine_request(options, device=device, threads=threads)
    path = Path(file)
    return NamedEngine(name or path.stem, EngineRequest(path, how, io, kind))


def parse_source(text: str) -> SourceRequest:
    """The source of ``NAME|FILE|MODULE:FACTORY[,KEY=VALUE...]``; keys are ``checkpoint``, ``model``, ``preset``.

    Raises:
        UsageError: A key is unknown.
    """
    from deploy_robust.app.networks import SourceRequest

    what, options = _parsed("--source", text, _source)
    return SourceRequest(what, **options)


def _parsed(option: str, text: str, command: click.Command) -> tuple[str, dict[str, Any]]:
    """What stands first, and the options behind it; a piece without a key belongs to what stands before it."""
    first, *pieces = text.split(",")
    arguments: list[str] = []
    for piece in pieces:
        key = _KEY.match(piece)
        if key is not None:
            arguments.append(f"--{piece}")
        elif arguments:
            arguments[-1] += f",{piece}"
        else:
            first += f",{piece}"
    try:
        with command.make_context(option, arguments, resilient_parsing=False) as context:
            return first, dict(context.params)
    except click.ClickException as error:
        raise UsageError(f"{option} {text}: {' '.join(error.format_message().split()).rstrip('.')}") from error
