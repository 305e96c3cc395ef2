"""The exporter protocol: what turns a network, or a graph made from one, into an artefact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

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
    """

    path: Path
    module: nn.Module
    size_rule: SizeRule
    verify: Callable[[Path], tuple[ParityFigure, ...]]
    graph: Path | None = None
    calibration: Calibration | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exporter made.

    Attributes:
        path: The verified artefact.
        parity: What the verifier measured.
        versions: Versions of the libraries that took part.
    """

    path: Path
    parity: tuple[ParityFigure, ...]
    versions: Mapping[str, str]


class Exporter(Protocol):
    """One way to make an artefact: what an entry point of the group ``deploy_robust.exporters`` names."""

    @property
    def name(self) -> str:
        """Name for commands and manifests."""
        ...

    @property
    def precision(self) -> str:
        """Precision of the artefact: ``fp32``, ``fp16``, ``bf16`` or ``int8``."""
        ...

    @property
    def suffix(self) -> str:
        """Suffix of the artefact, like ``.onnx``."""
        ...

    @property
    def starts_from(self) -> str | None:
        """Name of the exporter whose artefact this one starts from; None where it starts from the network."""
        ...

    @property
    def calibrates(self) -> bool:
        """Whether it needs calibration images."""
        ...

    def export(self, request: ExportRequest) -> Exported:
        """Makes the artefact, or leaves nothing behind.

        Raises:
            ExportError: The network cannot be exported this way, or the verifier found broken parity.
            EnvironmentProblem: A library is missing.
            InputError: The path cannot be written.
        """
        ...
