"""AOTInductor packages (``.pt2``): a torch network compiled ahead of time to native code for one kind of machine."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.artefact.onnx_graph import METADATA_PREFIX, Port
from deploy_robust.artefact.vouching import vouched_bytes
from deploy_robust.engine import UNKNOWN, Capabilities, EngineOptions, Health
from deploy_robust.engines.ports import undeclared
from deploy_robust.engines.torch_module import usable_device
from deploy_robust.errors import ArtefactError, EngineDefect, EnvironmentProblem, UsageError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from deploy_robust.artefact.io_description import IODescription

PRECISION = METADATA_PREFIX + "precision"
"""Key of the package's metadata under which our exporter says the precision."""

_ONNX_NAME = {"float32": "float", "float16": "float16", "uint8": "uint8"}
_NEEDS = {
    "AVX2": "avx2",
    "AVX512": "avx512_f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX": "amx",
}
"""Instruction sets as a package names them, and as ``torch.cpu.get_capabilities`` does."""


class AotInductorEngine:
    """A loaded package behind the engine protocol.

    A package checks neither type nor shape nor strides of what it is given: another type is read as if it were the
    right one. So everything is checked here, against the I/O description.

    Args:
        content: The package's bytes; somebody has answered for them.
        io: What it takes, from its manifest or the user: the package itself does not say.
        precision: Of the network inside, as its manifest says; None takes what the package says, or else the user.
        options: Device and threads.

    Raises:
        ArtefactError: The package is damaged, or was compiled for another machine or device.
        EnvironmentProblem: The device is not there.
    """

    def __init__(self, content: bytes, io: IODescription, precision: str | None, options: EngineOptions) -> None:
        where = usable_device(options.device)
        self._io = io
        self._model: Any
        self._model, facts = _load(content, where)
        said = facts.get(PRECISION)
        if None not in (said, precision) and said != precision:
            raise ArtefactError(f"its manifest says {precision} and the package {said}: export it again")
        sides = io.size.fixed or (None, None)
        shape = (io.batch, 3, *sides) if io.layout == "NCHW" else (io.batch, *sides, 3)
        self._image = Port("image", _ONNX_NAME[io.dtype], shape)
        self._device = where
        self._capabilities = Capabilities(
            runtime=f"aotinductor (torch {torch.__version__})",
            provider=where.type,
            device=str(where),
            threads=torch.get_num_threads() if where.type == "cpu" else None,
            deterministic=where.type == "cpu",
            differentiable=False,
            arithmetic="fused",
            precision=precision or said or options.precision or UNKNOWN,
            tags={"input": str(self._image)} | {key: facts[key] for key in ("AOTI_CPU_ISA",) if facts.get(key)},
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    @property
    def package(self) -> Any:
        """The loaded package itself, for benchmarks of what this wrapper costs."""
        return self._model

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        """One forward pass; the package allocates its answer, so that `out` costs a copy.

        Raises:
            EngineDefect: The package failed on an input of the type and shape that it was compiled for.
            EnvironmentProblem: The device has not enough memory.
            UsageError: The input is of another type, shape or device, or the engine is closed.
        """
        if self._model is None:
            raise UsageError("this engine is closed")
        if (mismatch := undeclared(batch, self._image)) is not None:
            raise mismatch
        if batch.device != self._device:
            raise UsageError(f"the package runs on {self._device} and was given a batch on {batch.device}")
        height, width = batch.shape[2:] if self._io.layout == "NCHW" else batch.shape[1:3]
        if self._io.size.padded(height, width) != (height, width):
            raise UsageError(
                f"the package takes {self._io.size} and was given {height}x{width}: call it through a Restorer"
            )
        try:
            with torch.no_grad():
                answer: object = self._model(batch.detach().contiguous())
        except torch.OutOfMemoryError as error:
            raise EnvironmentProblem(
                f"{self._device} ran out of memory on {tuple(batch.shape)}: use smaller images or batches"
            ) from error
        except Exception as error:
            raise EngineDefect(
                "crash", f"the package failed on an input of {tuple(batch.shape)}: {first_line(error)}"
            ) from error
        if not isinstance(answer, torch.Tensor):
            raise EngineDefect("dtype", f"the package answered with {type(answer).__name__} and not with one tensor")
        return answer if out is None else out.copy_(answer)

    def close(self) -> None:
        """Lets go of the package; its code stays mapped until the process ends."""
        self._model = None


@dataclass(frozen=True, slots=True)
class AotInductorKind:
    """Opens packages whose hash stands in their manifest, or that the user vouches for."""

    name: str = "aotinductor"
    suffixes: tuple[str, ...] = (".pt2",)

    def open(self, path: Path, options: EngineOptions) -> tuple[AotInductorEngine, IODescription]:
        """Checks the hash, then loads.

        Raises:
            ArtefactError: Nobody answers for the file, or it was compiled for another machine.
            EnvironmentProblem: The device is not there.
            UsageError: An option was given that a package has no use for.
        """
        options.refuse(
            "a compiled package",
            provider="choose with --device",
            compute="its types were fixed when it was compiled; export another --precision",
        )
        if options.arithmetic == "literal":
            raise UsageError("a compiled package is fused already: check its graph with --runtime literal")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        content = vouched_bytes(path, options.vouched)
        manifest = read_manifest(path)
        io = options.io if options.io is not None else describe(path)
        precision = None if manifest is None else manifest.precision
        try:
            return AotInductorEngine(content, io, precision, options), io
        except ArtefactError as error:
            raise ArtefactError(f"{path.name}: {error}") from error

    def health(self) -> list[Health]:
        """Nothing: compiling an addition takes half a minute, and a package loads where the torch engine works."""
        return []


def _load(content: bytes, where: torch.device) -> tuple[Any, Mapping[str, str]]:
    index = where.index if where.type == "cuda" else -1
    with tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder, _quiet():
        from torch._inductor import aoti_load_package

        # A private copy of the bytes that were vouched for: the file may change between reading and loading.
        private = Path(folder) / "package.pt2"
        private.write_bytes(content)
        facts = _compiled_for(private, where)
        try:
            model = aoti_load_package(str(private), device_index=-1 if index is None else index)
            return model, facts
        except Exception as error:
            raise ArtefactError(
                f"torch cannot load it ({first_line(error)}): compile it again on this machine, with this torch"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's compiler remarks on what it does not find, though nothing is compiled here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _compiled_for(package: Path, where: torch.device) -> Mapping[str, str]:
    """Reads what it was compiled for before any of its code is mapped: a wrong instruction kills the process.

    Raises:
        ArtefactError: It is no package, or one for another device or processor.
    """
    import json
    import zipfile

    try:
        with zipfile.ZipFile(package) as archive:
            names = [name for name in archive.namelist() if name.endswith("wrapper_metadata.json")]
            facts: dict[str, str] = json.loads(archive.read(names[0])) if names else {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"it is no AOTInductor package ({error}): copy or export it again") from error
    if not facts:
        raise ArtefactError("it is no AOTInductor package (it names no machine): copy or export it again")
    device = facts.get("AOTI_DEVICE_KEY", where.type)
    if device != where.type:
        raise ArtefactError(f"it was compiled for {device}: use --device {device}, or compile it for {where.type}")
    card = "".join(map(str, torch.cuda.get_device_capability(where))) if where.type == "cuda" else ""
    if card and facts.get("AOTI_COMPUTE_CAPABILITY", card) != card:
        raise ArtefactError(f"it was compiled for another GPU ({facts['AOTI_COMPUTE_CAPABILITY']}, this is {card})")
    able = torch.cpu.get_capabilities()
    missing = [name for name in facts.get("AOTI_CPU_ISA", "").split() if not able.get(_NEEDS.get(name, ""), True)]
    if missing:
        raise ArtefactError(f"it needs {', '.join(missing)}, which this CPU has not: compile it on this machine")
    return facts


KIND = AotInductorKind()
