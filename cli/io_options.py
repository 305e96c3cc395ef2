"""Options that say how an engine takes and gives images, for files that do not say it themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli.options import Size
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

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
    click.option("--batch", "io_batch", type=click.IntRange(1), help="The only batch size the engine takes."),
    click.option(
        "--io-file",
        "io_file",
        type=click.Path(path_type=Path),
        help='JSON file with any of these, as in a manifest\'s "io"; options win over it.',
    ),
)


def io_options(command: F) -> F:
    """Adds the options; they arrive as keyword arguments ``io_...`` that `io_overrides` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def io_overrides(
    *,
    io_range: tuple[float, float] | None,
    io_output_range: tuple[float, float] | None,
    io_layout: str | None,
    io_colour: str | None,
    io_mean: tuple[float, ...] | None,
    io_std: tuple[float, ...] | None,
    io_dtype: str | None,
    io_size: tuple[int, int] | None,
    io_multiple: int | None,
    io_batch: int | None,
    io_file: Path | None,
) -> dict[str, Any]:
    """The fields of an `IODescription` that the user gave, for `deploy_robust.artefact.describe.describe`.

    Raises:
        ArtefactError: The file is damaged, or names an unknown field.
        UsageError: The file is not there, or options contradict each other.
    """
    from deploy_robust.artefact.io_description import SizeRule

    if io_size is not None and io_multiple is not None:
        raise UsageError("--engine-size and --multiple exclude each other: a fixed size needs no multiple")
    size: SizeRule | None = None
    if io_size is not None or io_multiple is not None:
        size = SizeRule(multiple=io_multiple or 1, fixed=io_size)
    given = {
        "range": io_range,
        "output_range": io_output_range,
        "layout": io_layout,
        "colour": io_colour,
        "mean": io_mean,
        "std": io_std,
        "dtype": io_dtype,
        "size": size,
        "batch": io_batch,
    }
    return {**_read(io_file), **{name: value for name, value in given.items() if value is not None}}


def _read(path: Path | None) -> dict[str, Any]:
    """Only the fields that the file names: the rest stays with manifest and graph."""
    if path is None:
        return {}
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.errors import ArtefactError

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read --io-file {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise ArtefactError(
            f'--io-file {path} is no JSON ({error}): write an object like {{"range": [0, 255]}}'
        ) from error
    if not isinstance(data, dict):
        raise ArtefactError(f'--io-file {path} is no JSON object: write one like {{"range": [0, 255]}}')
    if data.get("dtype") == "uint8":
        data.setdefault("range", [0, 255])
    checked = IODescription.from_dict(data, f"--io-file {path}")
    return {name: getattr(checked, name) for name in data}
