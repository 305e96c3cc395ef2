"""The exporter protocol: what turns a network, or a graph made from one, into an artefact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from deploy_robust.artefact.io_description import SizeRule
    from deploy_robust.artefact.manifest import ParityFigure

CalibrationMethod = Literal["minmax", "percentile", "entropy"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Images that show an exporter which values occur.

    Attributes:
        images: Starts a fresh pass over the images, each (H, W, 3) uint8 RGB; sizes may differ.
        method: How ranges are drawn from the values seen.
    """

    images: Callable[[], Iterator[NDArray[np.uint8]]]
    method: CalibrationMethod = "minmax"


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """The shapes that an engine with dynamic sizes is built for, each (batch, height, width).

    Attributes:
        least: Smallest of each.
        best: What kernels are chosen for.
        most: Greatest of each; equal to `least` for one fixed shape.
    """

    least: tuple[int, int, int]
    best: tuple[int, int, int]
    most: tuple[int, int, int]

    def __post_init__(self) -> None:
        ordered = zip(self.least, self.best, self.most, strict=True)
        if not all(1 <= low <= middle <= high for low, middle, high in ordered):
            raise UsageError(f"the shape profile {self} is not in order: give smallest, best and greatest shape")

    def __str__(self) -> str:
        return ",".join("x".join(map(str, shape)) for shape in (self.least, self.best, self.most))

    @classmethod
    def parse(cls, text: str) -> ShapeProfile:
        """Reads ``1x64x64,1x256x384,4x512x768``, or one shape for all three.

        Raises:
            UsageError: It is something else.
        """
        try:
            shapes = [tuple(int(side) for side in shape.split("x")) for shape in text.split(",")]
        except ValueError:
            shapes = []
        if len(shapes) not in (1, 3) or any(len(shape) != 3 for shape in shapes):
            raise UsageError(
                f"a shape profile is min,opt,max with batch x height x width each, like "
                f"1x64x64,1x256x384,4x512x768, or one such shape (got {text!r})"
            )
        least, best, most = ((n, h, w) for n, h, w in (shapes if len(shapes) == 3 else shapes * 3))
        return cls(least, best, most)


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What a user may choose about an artefact; an exporter reads what concerns it.

    Attributes:
        keep_fp32: Names of submodules of the network that keep float32 in a float16 or bfloat16 graph (*islands*).
        quantise_ends: Whether the first and the last convolution are quantised too (int8 and fp8).
        profile: Shapes that a plan is built for; None leaves it to the exporter.
        tf32: Whether an engine may compute float32 products in TF32.
        timing_cache: Where a builder keeps what it learned of kernels; None keeps nothing.
        cross_check: Whose runners run the artefact once more, ``polygraphy``; None asks nobody.
    """

    keep_fp32: tuple[str, ...] = ()
    quantise_ends: bool = False
    profile: ShapeProfile | None = None
    tf32: bool = False
    timing_cache: Path | None = None
    cross_check: Literal["polygraphy"] | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """How a finished artefact is opened to be verified on the exporting machine.

    Attributes:
        kind: Name of the engine kind; None takes the one that opens such files.
        arithmetic: ``literal`` where the runtime must not fuse the graph's operators, because it is not the target.
        device: Torch device string.
    """

    kind: str | None = None
    arithmetic: Literal["literal", "fused"] | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One artefact to be made.

    Attributes:
        path: Where it goes. An exporter writes to a temporary name, verifies, and renames.
        module: The network: RGB in [0, 1], NCHW float32, to the same shape; in eval mode, on the CPU.
        size_rule: Which heights and widths the network accepts.
        verify: Measures parity of a finished file and raises ExportError where it is broken.
        graph: The artefact named by `Exporter.starts_from`; None for an exporter that starts from the network.
        calibration: Given where `Exporter.calibrates`.
        metadata: Essentials to store inside the artefact, where its format has a place for them.
        settings: What the user chose.
    """

    path: Path
    module: nn.Module
    size_rule: SizeRule
    verify: Callable[[Path], tuple[ParityFigure, ...]]
    graph: Path | None = None
    calibration: Calibration | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: ExportSettings = field(default_factory=ExportSettings)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter made.

    Attributes:
        path: The verified artefact.
        parity: What the verifier measured.
        versions: Versions of the libraries that took part.
        companions: Files that the artefact cannot do without, beside it, like the weights of an OpenVINO graph.
    """

    path: Path
    parity: tuple[ParityFigure, ...]
    versions: Mapping[str, str]
    companions: tuple[Path, ...] = ()


class Exporter(Protocol):
    """One way to make an artefact: what an entry point of the group ``deploy_robust.exporters`` names."""

    @property
    def name(self) -> str:
        """Name for commands and manifests."""
        ...

    @property
    def target(self) -> str:
        """What runs the artefact: ``onnx`` for a graph, or the name of a runtime that has files of its own."""
        ...

    @property
    def precision(self) -> str | None:
        """``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``; None for that of any graph it is given."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of the artefact, like ``.onnx``."""
        ...

    @property
    def starts_from(self) -> str | None:
        """Name of the exporter whose artefact this one starts from; None where it starts from the network.

        Where `precision` is None, this is the graph exporter taken when the user names none.
        """
        ...

    @property
    def calibrates(self) -> bool:
        """Whether it needs calibration images."""
        ...

    @property
    def opening(self) -> Opening:
        """How its artefacts are opened to be verified."""
        ...

    def export(self, request: ExportRequest) -> Exported:
        """Makes the artefact, or leaves nothing behind.

        Raises:
            ExportError: The network cannot be exported this way, or the verifier found broken parity.
            EnvironmentProblem: A library is missing.
            InputError: The path cannot be written.
        """
        ...
