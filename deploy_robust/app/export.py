"""The use case `export`: a trained network to artefacts, each verified before it gets its name."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust import __version__
from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.app.registries import engine_kind_for, exporter
from deploy_robust.artefact.exporter import Calibration, ExportRequest
from deploy_robust.artefact.files import make_folder
from deploy_robust.artefact.io_description import SMALLEST_SIDE, IODescription
from deploy_robust.artefact.manifest import (
    IDENTICAL,
    CalibrationRecord,
    FileRecord,
    Manifest,
    ModelRecord,
    ParityFigure,
    manifest_path,
)
from deploy_robust.artefact.onnx_graph import METADATA_PREFIX
from deploy_robust.artefact.sweep import swept
from deploy_robust.engine import EngineOptions
from deploy_robust.errors import EngineDefect, ExportError, ImageError, UsageError
from deploy_robust.gate.parity import CONVERSION, LEAST_IMAGES, parity, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from deploy_robust.artefact.exporter import CalibrationMethod, Exported, Exporter
    from deploy_robust.data.pairs import Pair, PairSource
    from deploy_robust.gate.parity import ImageParity
    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.models.derainer import Derainer
    from deploy_robust.restorer import Restorer

EMBEDDED_SIZE = (192, 256)
"""(height, width) at which embedded sources draw for calibration and parity."""

_SCRATCH = ".export-"
"""How the names of folders begin in which steps to an artefact are made."""

_SMALL, _LARGE = (97, 61), (321, 481)
_SIZE_OF_IMAGE = (0, 1, 2, 0, 1, 0, 1, 0)
"""Which of the three parity sizes the n-th image is cut to; one large image is enough, the small ones cost little."""


@dataclass(frozen=True, slots=True)
class ExportedArtefact:
    """One line of the table that an export ends with.

    Attributes:
        path: The artefact.
        manifest: What is known of it.
        megabytes: Its size in 10**6 bytes.
        seconds: Wall time of export and verification.
    """

    path: Path
    manifest: Manifest
    megabytes: float
    seconds: float


def export(
    out: Path,
    *,
    checkpoint: str | Path | None = None,
    model: str | None = None,
    preset: str | None = None,
    precisions: Sequence[str] = ("fp32", "int8"),
    pairs: PairsRequest | None = None,
    calibration_count: int = 16,
    method: CalibrationMethod = "minmax",
    on_step: Callable[[str], None] = lambda _: None,
) -> list[ExportedArtefact]:
    """Exports a network to one artefact per precision, with a manifest beside each and the weights beside them all.

    Parity is measured through the Restorer on rainy images that were not calibrated on, at three sizes that were not
    the example's. Where the source has fewer than nine images, the same ones serve for both.

    Args:
        out: Folder for the artefacts; made if needed.
        checkpoint: Weights file, or the name of shipped weights.
        model: Network in the registry; needed for an official ``.pth`` file. Alone, it names shipped weights.
        preset: Its preset, for an official ``.pth`` file.
        precisions: Names of exporters, in the order of the answer.
        pairs: Where rainy images come from; None takes embedded scenes of the calibration split.
        calibration_count: Images to calibrate on at most.
        method: How ranges are drawn from calibration images.
        on_step: Told in a few words what is being done.

    Raises:
        ExportError: A network that cannot be exported, or broken parity; that artefact is not left behind.
        CheckpointError: The weights cannot be used.
        UsageError: An exporter is unknown, or options contradict each other.
        InputError: The folder cannot be written, or there are no usable images.
    """
    from deploy_robust.models.checkpoints import load_any

    weights = checkpoint if checkpoint is not None else model
    if weights is None:
        raise UsageError("an export needs weights: give --checkpoint FILE, or the name of shipped weights")
    if calibration_count < 1:
        raise UsageError(f"calibration needs at least one image (got {calibration_count})")
    exporters = [exporter(name) for name in dict.fromkeys(precisions)]
    network, info = load_any(weights, name=model if checkpoint is not None else None, preset=preset)
    on_step("reading images")
    images = _Images.read(pairs or PairsRequest(split="calibration"), calibration_count)
    make_folder(out)
    with swept(out, f"{_SCRATCH}*"), tempfile.TemporaryDirectory(dir=out, prefix=_SCRATCH) as folder:
        job = _Job(network.eval().requires_grad_(False), info, images, method, out, Path(folder), on_step)
        return [job.made(each, keep=True) for each in exporters]


@dataclass(frozen=True, slots=True)
class _Images:
    """Rainy images: some to calibrate on, others to verify with."""

    identity: Mapping[str, str | int | float | bool | None]
    calibration: tuple[Pair, ...]
    verification: tuple[Pair, ...]

    @classmethod
    def read(cls, request: PairsRequest, count: int) -> _Images:
        if request.limit is None:
            request = replace(request, limit=count + LEAST_IMAGES)
        if request.size == PairsRequest().size:
            request = replace(request, size=EMBEDDED_SIZE)
        source: PairSource = open_pairs(request)
        total = len(source)
        apart = total > LEAST_IMAGES
        last = range(max(0, total - LEAST_IMAGES), total)
        first = range(min(count, total - LEAST_IMAGES if apart else total))
        return cls(source.identity, tuple(source[i] for i in first), tuple(source[i] for i in last))

    def record(self, method: CalibrationMethod) -> CalibrationRecord:
        digest = hashlib.sha256()
        for pair in self.calibration:
            digest.update(f"{pair.id}\x1f{pair.rainy.shape}\x1e".encode())
            digest.update(pair.rainy.tobytes())
        return CalibrationRecord(dict(self.identity), len(self.calibration), method, digest.hexdigest())

    def crops(self) -> Iterator[Tensor]:
        """Centre crops of the verification images, (1, 3, H, W) float32 in [0, 1], of three sizes in turn."""
        import numpy as np
        import torch

        for index, pair in enumerate(self.verification):
            height, width = parity_sizes(pair.size)[_SIZE_OF_IMAGE[index]]
            top, left = (pair.size[0] - height) // 2, (pair.size[1] - width) // 2
            cut = pair.rainy[top : top + height, left : left + width].transpose(2, 0, 1)[None]
            yield torch.from_numpy(np.ascontiguousarray(cut)).float() / 255


def parity_sizes(image: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Three different (height, width) that an image can be cut to, most of them odd, so that size rules break.

    Raises:
        ImageError: The image is too small for three.
    """
    if min(image) < SMALLEST_SIDE + 4:
        raise ImageError(
            f"parity is measured at three sizes, and a calibration image has {image[0]}x{image[1]} pixels: "
            f"use images of at least {SMALLEST_SIDE + 4} pixels a side"
        )
    large = min(_LARGE[0], image[0]), min(_LARGE[1], image[1])
    small = tuple(max(SMALLEST_SIDE + 1, min(s, side * 3 // 4)) for s, side in zip(_SMALL, image, strict=True))
    middle = tuple((a + b) // 2 for a, b in zip(small, large, strict=True))
    return (small[0], small[1]), (middle[0], middle[1]), large


class _Job:
    """One network on its way to several artefacts."""

    def __init__(
        self,
        network: Derainer,
        info: CheckpointInfo,
        images: _Images,
        method: CalibrationMethod,
        out: Path,
        scratch: Path,
        on_step: Callable[[str], None],
    ) -> None:
        self.network, self.info, self.images, self.method = network, info, images, method
        self.out, self.scratch, self.on_step = out, scratch, on_step
        self.io = IODescription(size=network.size_rule)
        self.stem = f"{info.identity.name}-{info.identity.preset}"
        self._made: dict[str, Path] = {}
        self._source: FileRecord | None = None

    def made(self, each: Exporter, *, keep: bool) -> ExportedArtefact:
        """Makes one artefact; without `keep` it goes to the scratch folder, as a step to another."""
        started = time.perf_counter()
        graph = None if each.starts_from is None else self._start(each.starts_from)
        self.on_step(f"exporting {each.name}")
        folder = self.out if keep else self.scratch
        path = folder / f"{self.stem}-{each.name}{each.suffix}"
        calibration = self.images.record(self.method) if each.calibrates else None
        exported = each.export(
            ExportRequest(
                path=path,
                module=self.network.for_export().eval().requires_grad_(False),
                size_rule=self.network.size_rule,
                verify=lambda file: self._verify(each, file, graph),
                graph=graph,
                calibration=Calibration(lambda: (pair.rainy for pair in self.images.calibration), self.method),
                metadata=self._metadata(each, calibration),
            )
        )
        self._made[each.name] = path
        try:
            manifest = self._manifest(each, exported, graph, calibration, keep=keep)
            if keep:
                manifest.write(folder)
        except BaseException:
            path.unlink(missing_ok=True)
            manifest_path(path).unlink(missing_ok=True)
            raise
        return ExportedArtefact(path, manifest, path.stat().st_size / 1e6, time.perf_counter() - started)

    def _start(self, name: str) -> Path:
        if name not in self._made:
            self.made(exporter(name), keep=False)
        return self._made[name]

    def _verify(self, each: Exporter, file: Path, graph: Path | None) -> tuple[ParityFigure, ...]:
        """Conversion parity of a finished file against the graph, or the network, that it was made from."""
        self.on_step(f"verifying {each.name}")
        bound = CONVERSION.get(each.precision)
        if bound is None:
            raise ExportError(f"no parity bound is known for precision {each.precision!r} of exporter {each.name}")
        name = each.starts_from or "torch"
        reference = self._torch() if graph is None else _opened(graph)
        candidate = _opened(file)
        try:
            figures = list(parity(reference, candidate, self.images.crops()))
        except EngineDefect as defect:
            raise ExportError(f"the {each.name} artefact does not run ({defect}); nothing was left behind") from defect
        finally:
            candidate.close()
            reference.close()
        for figure in figures:
            if not bound.holds(figure):
                raise ExportError(
                    f"parity of {each.name} against {name} is broken at {figure}, and the bound is {bound}; "
                    "nothing was left behind"
                )
        return tuple(_summed_up(name, figures))

    def _torch(self) -> Restorer:
        from deploy_robust.engines.torch_module import TorchEngine
        from deploy_robust.restorer import Restorer

        return Restorer(TorchEngine(self.network), self.io)

    def _metadata(self, each: Exporter, calibration: CalibrationRecord | None) -> dict[str, str]:
        essentials = {
            "version": __version__,
            "model": self.info.identity.name,
            "preset": self.info.identity.preset,
            "arguments": json.dumps(dict(self.info.identity.arguments), sort_keys=True),
            "weights_sha256": self.info.weights_sha256,
            "precision": each.precision,
            "io": json.dumps(self.io.to_dict(), sort_keys=True),
        }
        if calibration is not None:
            essentials["calibration"] = f"{calibration.method} on {calibration.count} images, {calibration.sha256}"
        return {METADATA_PREFIX + key: value for key, value in essentials.items()}

    def _manifest(
        self,
        each: Exporter,
        exported: Exported,
        graph: Path | None,
        calibration: CalibrationRecord | None,
        *,
        keep: bool,
    ) -> Manifest:
        if keep and self._source is None:
            self._source = self._keep_weights()
        identity = self.info.identity
        return Manifest(
            artefact=FileRecord.of(exported.path),
            precision=each.precision,
            exporter=each.name,
            versions=dict(exported.versions),
            io=self.io,
            model=ModelRecord(identity.name, identity.preset, dict(identity.arguments)),
            source=self._source,
            graph=None if graph is None else FileRecord.of(graph),
            calibration=calibration,
            parity=exported.parity,
        )

    def _keep_weights(self) -> FileRecord:
        """The weights beside the artefacts, so that a check finds its source."""
        from deploy_robust.models.checkpoints import save_checkpoint

        path = self.out / f"{self.stem}.safetensors"
        save_checkpoint(path, self.network, self.info.record)
        return FileRecord.of(path)


def _opened(path: Path) -> Restorer:
    from deploy_robust.restorer import Restorer

    return Restorer(*engine_kind_for(path).open(path, EngineOptions()))


def _summed_up(reference: str, figures: Sequence[ImageParity]) -> Iterator[ParityFigure]:
    """The worst figure of each size, in the order in which sizes first came."""
    for size in dict.fromkeys(figure.size for figure in figures):
        same = [figure for figure in figures if figure.size == size]
        low = worst(same)
        yield ParityFigure(reference, size, len(same), IDENTICAL if low.identical else low.psnr_db, low.max_abs)
