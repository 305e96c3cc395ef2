"""Groups of options that several commands share, and the small parsers behind them."""

from __future__ import annotations

import math
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.app.pairs import PairsRequest

F = TypeVar("F", bound="Callable[..., Any]")


class Finite(click.FloatRange):
    """A number in a range; click lets NaN and infinities pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parses; click reports what is wrong."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Size(click.ParamType[tuple[int, int]]):
    """``128`` or ``128x256``: height and width in pixels."""

    name = "size"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parses; click reports what is wrong."""
        if isinstance(value, tuple):
            return value
        parts = value.lower().split("x")
        if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no size: write HEIGHTxWIDTH in pixels, like 128x256, or one number", param, ctx)
        return int(parts[0]), int(parts[-1])


_DATA = click.option(
    "--data",
    default="scenes",
    show_default=True,
    metavar="scenes|photos|DIR",
    help="Embedded scenes, embedded photographs, or a folder with rainy and clean images.",
)
_LIMIT = click.option("--limit", type=click.IntRange(min=1), help="Pairs at most. [default: 24, or the whole folder]")
_UNITS = click.option(
    "--units",
    "limit",
    type=click.IntRange(min=1),
    help="Units at most; more of them continue a run of scenes. [default: 30 / p0 scenes, or the whole folder]",
)
_SHAPE = (
    click.option(
        "--size", type=Size(), default="128", show_default=True, metavar="HxW", help="Size of embedded pairs."
    ),
    click.option("--crop", type=Size(), metavar="HxW", help="Cut images of a folder to this size."),
    click.option(
        "--crop-at",
        type=click.Choice(["centre", "keyed"]),
        default="centre",
        show_default=True,
        help="Where to cut: in the middle, or drawn by the seed.",
    ),
    click.option("--unpaired", is_flag=True, help="The folder holds real rain without ground truth."),
    click.option(
        "--labels",
        metavar="DIR",
        help="Folder of Cityscapes labels for the images of a folder. [default: gtFine in it, if there]",
    ),
)


def pairs_options(command: F) -> F:
    """Adds the options that say which pairs to work on; `pairs_request` reads them."""
    return stacked(command, _DATA, _LIMIT, *_SHAPE)


def units_options(command: F) -> F:
    """The same, where each pair is a unit of a test."""
    return stacked(command, _DATA, _UNITS, *_SHAPE)


def pairs_request(
    *,
    data: str,
    limit: int | None,
    size: tuple[int, int],
    crop: tuple[int, int] | None,
    crop_at: Any,
    unpaired: bool,
    seed: int,
    labels: str | None = None,
) -> PairsRequest:
    """What the options of `pairs_options` say."""
    from deploy_robust.app.pairs import PairsRequest

    return PairsRequest(
        what=data, limit=limit, size=size, crop=crop, crop_at=crop_at, unpaired=unpaired, seed=seed, labels=labels
    )


def stacked(command: F, *decorators: Callable[[F], F]) -> F:
    """Applies decorators so that --help lists them in the order given."""
    return reduce(lambda inner, decorate: decorate(inner), reversed(decorators), command)


FILE = click.Path(path_type=Path)
"""A path; the use case checks it, so that its message can say what to do."""
