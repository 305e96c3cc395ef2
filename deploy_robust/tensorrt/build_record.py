"""The record beside a plan, ``<plan>.build.json``: a plan holds no notes, and is good for one version on one GPU."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust import __version__
from deploy_robust.artefact.files import write_bytes
from deploy_robust.artefact.manifest import FileRecord
from deploy_robust.artefact.side_files import RECORD_SUFFIX
from deploy_robust.boundary import MalformedError, parse_json, read_text, versioned
from deploy_robust.errors import ArtefactError
from deploy_robust.tensorrt.device import Gpu
from deploy_robust.tensorrt.profiles import Profile

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
"""Version of the record's form; a reader refuses one that it does not know."""

_PORTABLE = ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """How a plan was made. Names of flags and never their numbers: those changed between TensorRT 10 and 11.

    Attributes:
        plan: The plan.
        onnx: The graph it was built from.
        precision: Of that graph: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        tensorrt: Version of TensorRT.
        gpu: Where it was built.
        flags: Names of the builder's flags that were set.
        hardware: Name of the hardware compatibility level; ``NONE`` ties the plan to one compute capability.
        optimisation: The builder's optimisation level, 0 to 5.
        workspace: Bytes of scratch memory that kernels could use; None left it to TensorRT.
        profiles: Optimisation profiles; empty for a graph of one shape.
        timing_cache: SHA-256 of the timing cache file as it was after the build; None where none was used.
        layers: How many layers gave an output of which type, as the inspector saw it.
        seconds: Wall time of the build.
        created_by: Version of deploy-robust.
    """

    plan: FileRecord
    onnx: FileRecord
    precision: str
    tensorrt: str
    gpu: Gpu
    flags: tuple[str, ...]
    hardware: str
    optimisation: int
    workspace: int | None
    profiles: tuple[Profile, ...]
    timing_cache: str | None
    layers: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    created_by: str = f"deploy-robust {__version__}"

    def write(self, plan: Path) -> None:
        """Writes the record of `plan` beside it.

        Raises:
            InputError: The file cannot be written.
        """
        data = {"schema": SCHEMA, **dataclasses.asdict(self)}
        write_bytes(record_path(plan), (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())

    def check(self, plan: Path, version: str, gpu: Gpu) -> None:
        """Refuses another TensorRT or another kind of GPU than the plan is good for.

        Args:
            plan: For the message.
            version: Of TensorRT here.
            gpu: The GPU here.

        Raises:
            ArtefactError: It would not load, or load and do something else.
        """
        again = f"build it again here from {self.onnx.file} (docs/tensorrt.md)"
        if version != self.tensorrt:
            raise ArtefactError(
                f"{plan.name} was built by TensorRT {self.tensorrt} and this is {version}: {again}, "
                f"or install tensorrt=={self.tensorrt}"
            )
        ampere_or_newer = self.hardware == "AMPERE_PLUS" and _major(gpu) >= 8
        if gpu.capability != self.gpu.capability and not ampere_or_newer:
            raise ArtefactError(
                f"{plan.name} was built for {self.gpu} and this is {gpu}: {again}, or check it on the other GPU"
            )
        if gpu.name != self.gpu.name and self.hardware not in _PORTABLE:
            raise ArtefactError(
                f"{plan.name} was tuned on {self.gpu.name} and this is {gpu.name}, of the same compute capability: "
                f"kernels are chosen by their times on one card, so {again}, or with a hardware compatibility level"
            )


def record_path(plan: Path) -> Path:
    """Where the record of a plan lies, whether it exists or not."""
    return plan.with_name(plan.name + RECORD_SUFFIX)


def read_record(plan: Path) -> BuildRecord | None:
    """The record of a plan; None where there is none. Whether the plan's bytes are the recorded ones is for the caller.

    Raises:
        ArtefactError: The record is damaged, or of an unknown schema.
    """
    path = record_path(plan)
    if not path.is_file():
        return None
    remedy = "build the plan again, or remove the record and vouch for the plan (--vouch)"
    try:
        return versioned(BuildRecord, parse_json(read_text(path)), SCHEMA)
    except MalformedError as error:
        raise ArtefactError(f"the build record {path} {error}: {remedy}") from error


def _major(gpu: Gpu) -> int:
    return int(gpu.capability.split(".")[0])
