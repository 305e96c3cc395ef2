"""The engine protocol: everything that can turn a rainy batch into a derained one without showing how."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

Arithmetic = Literal["literal", "fused", "unknown"]

UNKNOWN = "unknown"
"""Precision of an engine whose format does not tell, and of which nobody says it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine declares of itself, read back from the runtime rather than repeated from the request.

    Attributes:
        runtime: Name and version, like ``onnxruntime 1.31.1``.
        provider: The provider really in use, like ``CPUExecutionProvider``.
        device: Torch device string on which `Engine.run` takes and returns tensors.
        threads: Intra-operator threads; None where the runtime does not say.
        deterministic: Whether the runtime promises the same bits for the same batch.
        differentiable: Whether autograd runs through `Engine.run`.
        arithmetic: ``literal`` when the graph's own operators run one by one, ``fused`` when they may be replaced.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8`` as graph, module or user say; else `UNKNOWN`.
        tags: Anything else worth a line in the report.
    """

    runtime: str
    provider: str
    device: str = "cpu"
    threads: int | None = None
    deterministic: bool = True
    differentiable: bool = False
    arithmetic: Arithmetic = "unknown"
    precision: str = UNKNOWN
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the store and the report."""
        return {**asdict(self), "tags": dict(self.tags)}


@runtime_checkable
class Engine(Protocol):
    """A loaded artefact or model. Tensors are in the engine's native form (see `IODescription`), on its own device."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        ...

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass.

        Args:
            batch: Native input, contiguous, on `Capabilities.device`.
            out: Where to write the answer, of its shape and type; None allocates.

        Returns:
            The native output; `out` itself where it was given.

        Raises:
            EngineDefect: The runtime failed on an input that it had accepted.
        """
        ...

    def close(self) -> None:
        """Release the runtime's resources; calling it twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to load an engine. A runtime that cannot do what an option asks for refuses it.

    Attributes:
        device: Torch device string: ``cpu``, ``cuda``, ``cuda:1``.
        provider: Runtime-specific provider name; None picks the device's plain one.
        threads: Intra-operator threads; None leaves it to the runtime.
        arithmetic: ``literal`` runs the graph's own operators one by one, ``fused`` lets the runtime replace them (Q/DQ
            pairs by integer kernels, for instance); None is what the runtime does by itself.
        compute: Type in which a runtime that chooses may compute what the graph leaves in floating point: ``f32``,
            ``bf16`` or ``f16``; None is what the graph says.
        vouched: SHA-256 of an artefact with native code that has no manifest, given by a user who knows its origin.
        precision: What the engine computes in, said by the user for a format that does not tell.
        io: I/O description given by the user; it wins over the manifest's. None reads the manifest or the default.
    """

    device: str = "cpu"
    provider: str | None = None
    threads: int | None = None
    arithmetic: Literal["literal", "fused"] | None = None
    compute: Literal["f32", "bf16", "f16"] | None = None
    vouched: str | None = None
    precision: str | None = None
    io: IODescription | None = None

    def refuse(self, runtime: str, **unusable: str) -> None:
        """Refuses options that were given and that a runtime has no use for.

        Args:
            runtime: Its name, for the message.
            unusable: Name of an option to what to do instead.

        Raises:
            UsageError: One of them was given.
        """
        for name, remedy in unusable.items():
            if (given := getattr(self, name)) is not None:
                raise UsageError(f"{runtime} cannot be told {name} {given!r}: {remedy}")


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a runtime really runs here, found out by running it.

    Attributes:
        name: What was tried, like ``onnxruntime / CUDAExecutionProvider``.
        works: Whether it gave a right answer.
        detail: Version where it works, the reason where it does not.
        remedy: What to do about it; empty where it works.
    """

    name: str
    works: bool
    detail: str
    remedy: str = ""


class EngineKind(Protocol):
    """One runtime: what an entry point of the group ``deploy_robust.engines`` names."""

    @property
    def name(self) -> str:
        """Name for messages and reports."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File suffixes that this runtime opens, like ``(".onnx",)``; empty where it opens no file."""
        ...

    def open(self, path: Path, options: EngineOptions) -> tuple[Engine, IODescription]:
        """Load a file.

        Returns:
            The engine, and its I/O description completed from the file itself (fixed sizes, type, batch rule).

        Raises:
            ArtefactError: The file is not an engine that this runtime can load.
            EnvironmentProblem: The library, provider or device is not there.
        """
        ...

    def health(self) -> list[Health]:
        """What of this runtime works on this machine, found out by running it."""
        ...
