"""The manifest: what an artefact is, where it came from and what was measured when it was made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from deploy_robust import __version__
from deploy_robust.artefact.files import write_bytes
from deploy_robust.artefact.hashing import identity_of, sha256_of
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.side_files import side_files
from deploy_robust.boundary import MalformedError, parse_json, read_text, shown, versioned
from deploy_robust.errors import ArtefactError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
"""Version of the manifest's form; a reader refuses one that it does not know."""

_REQUIRED = ("model", "source", "graph", "calibration", "parity")
"""Keys that every manifest has, if only as null: without one of them an engine would lose its source in silence."""

Count = Annotated[int, Ge(0)]

IDENTICAL = "identical"
"""Stands for the infinite PSNR of two equal images, which JSON cannot hold."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file known by its content.

    Attributes:
        file: Name without a folder; where the file is kept at all, it lies beside the artefact.
        sha256: Hash of its bytes; of an engine that reads further files, see `identity_of`.
    """

    file: str
    sha256: str

    def __post_init__(self) -> None:
        if self.file in ("", ".", "..") or any(sign in self.file for sign in "/\\\0"):
            raise UsageError(
                f"file must be a name without a folder: what belongs together lies together (got {shown(self.file)})"
            )

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """The record of a file that exists.

        Raises:
            InputError: The file cannot be read.
        """
        return cls(path.name, identity_of(path))


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Which network of the zoo the artefact holds.

    Attributes:
        name: Name in the registry.
        preset: Named set of arguments; None where only `arguments` say it.
        arguments: Constructor arguments.
    """

    name: str
    preset: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """The images that set the ranges of an integer graph.

    Attributes:
        source: Identity of the pair source.
        count: Images used.
        method: ``minmax``, ``percentile`` or ``entropy``.
        sha256: Hash over ids and pixels in order.
    """

    source: Mapping[str, Any]
    count: Count
    method: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ParityFigure:
    """How closely an artefact follows a reference at one image size, over all images of that size.

    Attributes:
        reference: What it was compared with, like ``torch`` or ``fp32``.
        size: (height, width) in pixels.
        images: Images compared.
        psnr_db: Lowest PSNR in dB, peak 1, float32 outputs unrounded and unclamped; `IDENTICAL` where all are equal.
        max_abs: Greatest difference of any value, in [0, 1] units.
    """

    reference: str
    size: tuple[int, int]
    images: Count
    psnr_db: float | str
    max_abs: float


@dataclass(frozen=True, slots=True)
class CrossCheckRecord:
    """What another program's runners made of the artefact and of its fp32 reference.

    Attributes:
        tool: Name and version.
        reference: ``fp32 graph``, or ``torch`` for an artefact that is that graph itself.
        images: Images compared.
        psnr_db: Lowest PSNR in dB, as in `ParityFigure`.
        max_abs: Greatest difference of any value, in [0, 1] units.
        inputs: What both were given, in the tool's own format, beside the artefact.
        outputs: What both answered, likewise.
    """

    tool: str
    reference: str
    images: Count
    psnr_db: float | str
    max_abs: float
    inputs: FileRecord
    outputs: FileRecord


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that travels with an artefact, in ``<artefact>.json`` beside it.

    Attributes:
        artefact: The file it belongs to.
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``.
        exporter: Name of the exporter that wrote it.
        versions: Versions of the libraries that took part.
        io: How it takes and gives images.
        model: The network, where it came from the zoo.
        source: The weights it was made from, kept beside it.
        graph: The graph that it was derived from; None where it was exported from the network itself.
        calibration: None where nothing was calibrated.
        parity: Measured when it was made.
        companions: Files that the artefact cannot do without, beside it.
        cross_check: None where no other program was asked.
        created_by: Version of deploy-robust.
    """

    artefact: FileRecord
    precision: str
    exporter: str
    versions: Mapping[str, str]
    io: IODescription
    model: ModelRecord | None = None
    source: FileRecord | None = None
    graph: FileRecord | None = None
    calibration: CalibrationRecord | None = None
    parity: tuple[ParityFigure, ...] = ()
    companions: tuple[FileRecord, ...] = ()
    cross_check: CrossCheckRecord | None = None
    created_by: str = f"deploy-robust {__version__}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the schema's version first."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    def write(self, folder: Path) -> Path:
        """Writes the manifest beside its artefact in `folder`; returns its path.

        Raises:
            InputError: The file cannot be written.
        """
        path = manifest_path(folder / self.artefact.file)
        write_bytes(path, (json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n").encode())
        return path


def manifest_path(artefact: Path) -> Path:
    """Where the manifest of an artefact lies, whether it exists or not."""
    return artefact.with_name(artefact.name + ".json")


def read_manifest(artefact: Path) -> Manifest | None:
    """The manifest of an artefact; None where there is none.

    Raises:
        ArtefactError: The manifest is damaged or of an unknown schema, or belongs to other bytes than the artefact's.
        InputError: The artefact cannot be read.
    """
    path = manifest_path(artefact)
    if not path.is_file():
        return None
    manifest = _parse(path)
    found = identity_of(artefact)
    if found != manifest.artefact.sha256 and not _by_companions(manifest, artefact):
        raise ArtefactError(
            f"{path.name} belongs to other bytes than {artefact}: expected sha256 {manifest.artefact.sha256[:12]}..., "
            f"found {found[:12]}...; export it again, or remove the manifest to check the file as a foreign one"
        )
    return manifest


def _by_companions(manifest: Manifest, artefact: Path) -> bool:
    """Whether every file has its own hash in the manifest, as in those of version 0.1."""
    known = {each.file: each.sha256 for each in manifest.companions}
    hashes = {name: sha256_of(artefact.parent / name) for name in side_files(artefact)}
    own = bool(hashes) and sha256_of(artefact) == manifest.artefact.sha256
    return own and all(known.get(name) == sha256 for name, sha256 in hashes.items())


def _parse(path: Path) -> Manifest:
    remedy = "export the artefact again, or remove the manifest to check it as a foreign file"
    try:
        return versioned(Manifest, parse_json(read_text(path)), SCHEMA, _REQUIRED)
    except MalformedError as error:
        raise ArtefactError(f"the manifest {path} {error}: {remedy}") from error
