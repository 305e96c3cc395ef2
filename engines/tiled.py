"""A network run in tiles: the same image and the same gradient with the memory of one tile."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from deploy_robust.engine import Capabilities, Engine

    Run = Callable[[Tensor], Tensor]

PROBE = 1024
"""Length in pixels of the longest strip on which a receptive field is looked for."""

_STRIP = 32
"""Its width: strips along both axes show what a square would, for far less."""

_ULPS = 1e-4


class TiledEngine:
    """Runs a convolutional network tile by tile, forward and backward; each tile sees a halo of its neighbours.

    The halo is at least the receptive field's radius, which is measured and not declared: a NaN in one pixel marks
    every output that depends on it. Networks in which all of them do, as with global pooling, are refused.

    Args:
        engine: A differentiable engine that takes (N, 3, H, W).
        tile: Side of a tile without its halo, in pixels; rounded up to the size rule.
        multiple: Of the engine's size rule; tiles begin and end at multiples of it.

    Raises:
        UsageError: The network cannot be tiled: an output depends on the whole image, or on where its pixel lies.
    """

    def __init__(self, engine: Engine, tile: int, multiple: int = 1) -> None:
        if tile < 1:
            raise UsageError(f"a tile needs at least one pixel (got {tile})")
        self._engine = engine
        self.radius = receptive_radius(engine, multiple)
        self._tile, self._halo = (math.ceil(each / multiple) * multiple for each in (tile, self.radius))
        self._require_translation(multiple)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._engine.capabilities

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """The engine's own answer, with gradients where `batch` requires them."""
        tiles = list(_tiles(batch.shape[-2:], self._tile, self._halo))
        answer: Tensor = _InTiles.apply(batch, self._engine.run, tiles)
        return answer if out is None else out.copy_(answer)

    def close(self) -> None:
        """Releases the engine."""
        self._engine.close()

    def _require_translation(self, multiple: int) -> None:
        """Compares tiles with the whole on a small image."""
        side = math.ceil(max(2 * self._halo, 32) / multiple) * multiple
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 3, side, side, generator=generator).to(self.capabilities.device)
        tiles = list(_tiles(image.shape[-2:], math.ceil(side / 2 / multiple) * multiple, self._halo))
        with torch.no_grad():
            apart = (_whole(image, self._engine.run, tiles) - self._engine.run(image)).abs().max().item()
        if not apart <= _ULPS:
            raise UsageError(
                f"this network cannot be run in tiles: a tile's answer differs from the whole image's by {apart:.2g}, "
                "so that it treats pixels by where they lie: leave --tile out, or save memory with --checkpointing"
            )


def receptive_radius(engine: Engine, multiple: int = 1) -> int:
    """How far an output can lie from an input that it depends on, in pixels.

    Args:
        engine: Takes (N, 3, H, W) of any size that is a multiple of `multiple`.
        multiple: Positions that far apart are treated alike.

    Raises:
        UsageError: Outputs depend on inputs further away than half of `PROBE`: on the whole image, for all one can see.
    """
    length = math.ceil(64 / multiple) * multiple
    while length <= PROBE:
        # Grids of strides treat the pixels of a cell differently: both ends of a cell see furthest.
        centre = length // 2 // multiple * multiple
        farthest: int | None = 0
        for place, upright in product({centre, centre + multiple - 1}, (False, True)):
            reach = _reach(engine, length, multiple, place, upright)
            if reach is None:  # the others need not be looked at: the strip is too short
                farthest = None
                break
            farthest = max(farthest or 0, reach)
        if farthest is not None:
            return farthest
        length *= 2
    raise UsageError(
        f"this network cannot be run in tiles: an output depends on inputs {PROBE // 2} pixels away and further, on "
        "the whole image where it pools globally: leave --tile out, or save memory with --checkpointing"
    )


def _reach(engine: Engine, length: int, multiple: int, place: int, upright: bool) -> int | None:
    """Largest distance along a strip from a marked pixel to an output that depends on it; None at the strip's ends."""
    width = math.ceil(_STRIP / multiple) * multiple
    size = (length, width) if upright else (width, length)
    image = torch.full((1, 3, *size), 0.5, device=engine.capabilities.device)
    image[(..., place, width // 2) if upright else (..., width // 2, place)] = torch.nan
    with torch.no_grad():
        marked = engine.run(image).isnan().any(1)[0]
    where: list[int] = marked.any(1 if upright else 0).nonzero().flatten().tolist()
    if where and (where[0] == 0 or where[-1] == length - 1):
        return None
    return max([0, *(abs(each - place) for each in where)])


class _Tile(NamedTuple):
    """Where a tile reads, where it writes, and what of its answer that is; slices of rows and columns."""

    seen: tuple[slice, slice]
    core: tuple[slice, slice]
    inner: tuple[slice, slice]


def _tiles(size: Any, tile: int, halo: int) -> Iterator[_Tile]:
    for rows, columns in product(*(list(_spans(length, tile, halo)) for length in size)):
        yield _Tile(*((a, b) for a, b in zip(rows, columns, strict=True)))


def _spans(length: int, tile: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        low, high = max(0, start - halo), min(length, stop + halo)
        yield slice(low, high), slice(start, stop), slice(start - low, stop - low)


def _whole(batch: Tensor, run: Run, tiles: list[_Tile]) -> Tensor:
    whole = torch.empty_like(batch)
    for tile in tiles:
        whole[(..., *tile.core)] = run(batch[(..., *tile.seen)].contiguous())[(..., *tile.inner)]
    return whole


class _InTiles(torch.autograd.Function):
    """Forward keeps the input alone; backward runs every tile again."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor, run: Run, tiles: list[_Tile]) -> Tensor:
        ctx.save_for_backward(batch)
        ctx.run, ctx.tiles = run, tiles
        return _whole(batch, run, tiles)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (batch,) = ctx.saved_tensors
        total = torch.zeros_like(batch)
        for tile in ctx.tiles:
            with torch.enable_grad():
                seen = batch[(..., *tile.seen)].detach().contiguous().requires_grad_()
                inner = ctx.run(seen)[(..., *tile.inner)]
                (part,) = torch.autograd.grad(inner, seen, gradients[0][(..., *tile.core)])
            total[(..., *tile.seen)] += part
        return total, None, None
