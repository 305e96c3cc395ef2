"""Options that say how an engine takes and gives images, for files that do not say it themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli.options import Size
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

F = TypeVar("F", bound="Callable[..., Any]")


class Numbers(click.ParamType[tuple[float, ...]]):
    """A fixed count of numbers with commas between them, like ``0,255``."""

    def __init__(self, count: int, example: str) -> None:
        self.count, self.example = count, example
        self.name = "numbers"

    def convert(
        self, value: str | tuple[float, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parses; click reports what is wrong."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            self.fail(f"{value!r} is not {self.count} numbers with commas between: write {self.example}", param, ctx)
        return numbers


_EXAMPLE = 'like {"range": [0, 255]}'
_RANGE = Numbers(2, "0,255")
_CHANNELS = Numbers(3, "0.485,0.456,0.406")

_OPTIONS = (
    click.option("--range", "io_range", type=_RANGE, metavar="LOW,HIGH", help="Input range, like 0,255 or -1,1."),
    click.option("--output-range", "io_output_range", type=_RANGE, metavar="LOW,HIGH", help="Output range."),
    click.option("--layout", "io_layout", type=click.Choice(["NCHW", "NHWC"], case_sensitive=False), help="Axes."),
    click.option("--colour", "io_colour", type=click.Choice(["RGB", "BGR"], case_sensitive=False), help="Channels."),
    click.option("--mean", "io_mean", type=_CHANNELS, metavar="R,G,B", help="Subtracted, in [0, 1] units."),
    click.option("--std", "io_std", type=_CHANNELS, metavar="R,G,B", help="Divided by, in [0, 1] units."),
    click.option("--dtype", "io_dtype", type=click.Choice(["float32", "float16", "uint8"]), help="Input type."),
    click.option("--engine-size", "io_size", type=Size(), metavar="HxW", help="The only size the engine takes."),
    click.option("--multiple", "io_multiple", type=click.IntRange(1), help="Sides must be multiples of this."),
    click.option("--engine-batch", "io_batch", type=click.IntRange(1), help="The only batch size the engine takes."),
    click.option(
        "--io-file",
        "io_file",
        type=click.Path(path_type=Path),
        help='JSON file with any of these, as in a manifest\'s "io"; options win over it.',
    ),
)


_FIELDS = ("range", "output_range", "layout", "colour", "mean", "std", "dtype", "size", "batch")
"""Fields of `IODescription` that have an option of their own."""


def io_options(command: F) -> F:
    """Adds the options; they arrive as keyword arguments ``io_...`` that `io_overrides` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def io_overrides(options: MutableMapping[str, Any]) -> dict[str, Any]:
    """The fields of an `IODescription` that the user gave, for `deploy_robust.artefact.describe.describe`.

    Args:
        options: Keyword arguments of a command under `io_options`; those that belong here are taken out.

    Raises:
        ArtefactError: The file is damaged, or names an unknown field.
        UsageError: The file is not there, or options contradict each other.
    """
    from deploy_robust.artefact.io_description import SizeRule

    file: Path | None = options.pop("io_file")
    multiple: int | None = options.pop("io_multiple")
    given = {name: options.pop(f"io_{name}") for name in _FIELDS}
    if multiple is not None and given["size"] is not None:
        raise UsageError("--engine-size and --multiple exclude each other: a fixed size needs no multiple")
    if multiple is not None:
        given["size"] = SizeRule(multiple=multiple)
    elif given["size"] is not None:
        given["size"] = SizeRule(fixed=given["size"])
    return {**_read(file), **{name: value for name, value in given.items() if value is not None}}


def _read(path: Path | None) -> dict[str, Any]:
    """Only the fields that the file names: the rest stays with manifest and graph."""
    if path is None:
        return {}
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.boundary import MalformedError, parse_json, read_text
    from deploy_robust.errors import ArtefactError

    try:
        data = parse_json(read_text(path))
    except MalformedError as error:
        raise ArtefactError(f'--io-file {path} {error}: write a JSON object like {{"range": [0, 255]}}') from error
    if isinstance(data, dict) and data.get("dtype") == "uint8":
        data.setdefault("range", [0, 255])
    checked = IODescription.from_dict(data, f"--io-file {path}")
    return {name: getattr(checked, name) for name in data}
