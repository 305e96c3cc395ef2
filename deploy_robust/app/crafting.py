"""How attacks by gradients run their source: in which arithmetic, in which memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.engine import Engine
    from deploy_robust.restorer import Restorer

CraftDtype = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Crafting:
    """What a search by gradients may trade.

    Attributes:
        dtype: ``bf16`` searches on a copy of the source in that type and scores what it finds in fp32.
        checkpointing: Computes activations again for the gradient instead of keeping them.
        tile: Runs the source in tiles of so many pixels; None runs whole images.
        cuda_graph: Captures the source's kernels once for each shape.
    """

    dtype: CraftDtype = "fp32"
    checkpointing: bool = False
    tile: int | None = None
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in get_args(CraftDtype):
            raise UsageError(f"craft dtype must be one of {', '.join(get_args(CraftDtype))} (got {self.dtype!r})")
        if self.cuda_graph and (self.checkpointing or self.tile is not None):
            raise UsageError(
                "a captured graph holds one forward and one backward pass: --cuda-graph goes without --checkpointing "
                "and --tile"
            )

    def to_dict(self) -> dict[str, Any]:
        """What differs from the default, as plain data."""
        plain = Crafting()
        return {key: value for key, value in asdict(self).items() if value != getattr(plain, key)}

    def notes(self) -> Iterator[str]:
        """One line for each, for the report."""
        if self.dtype == "bf16":
            yield "attacks were searched on a bfloat16 copy of the source; fp32 chose what each row returns"
        if self.checkpointing:
            yield "attacks recomputed the source's activations (checkpointing); gradients are the same"
        if self.tile is not None:
            yield f"attacks ran the source in tiles of {self.tile} pixels with a halo of its receptive field"
        if self.cuda_graph:
            yield "attacks replayed the source's kernels from captured CUDA graphs"

    def open(self, module: nn.Module, device: str, io: IODescription, name: str) -> Restorer:
        """The source as attacks see it.

        Raises:
            EnvironmentProblem: The device is not there.
            UsageError: The network cannot be run as asked.
        """
        from deploy_robust.engines.captured import CapturedEngine
        from deploy_robust.engines.tiled import TiledEngine
        from deploy_robust.engines.torch_module import TorchEngine, usable_device
        from deploy_robust.models.draft import Draft
        from deploy_robust.models.recompute import recompute
        from deploy_robust.restorer import Restorer

        networks = [module]
        if self.dtype == "bf16":  # copied first: a copy of a network that recomputes would share its parts
            networks.append(Draft(module, usable_device(device)))
        if self.checkpointing and not all(recompute(network) for network in networks):
            raise UsageError(
                f"{name} has no parts that could be recomputed: leave --checkpointing out, or attack fewer images "
                "together (--rows)"
            )

        def engine(network: nn.Module) -> Engine:
            found: Engine = TorchEngine(network, device, name=name)
            if self.tile is not None:
                found = TiledEngine(found, self.tile, io.size.multiple)
            return CapturedEngine(found) if self.cuda_graph else found

        exact, *drafts = (engine(network) for network in networks)
        return Restorer(exact, io, draft=Restorer(drafts[0], io) if drafts else None)

    def refuse(self, why: str) -> None:
        """Refuses everything but the default.

        Raises:
            UsageError: Something else was asked for.
        """
        if asked := self.to_dict():
            flags = {"dtype": "--craft-dtype", "cuda_graph": "--cuda-graph"}
            names = ", ".join(flags.get(key, f"--{key}") for key in asked)
            raise UsageError(
                f"{names} works on networks of torch, and {why}: leave it out, or name weights with --source"
            )
