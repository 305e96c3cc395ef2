"""One network on its way to several artefacts: what each starts from is made once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploy_robust import __version__
from deploy_robust.app.exporting.verifier import Verified, Verifier
from deploy_robust.app.exporting.wanted import ONNX, wanted
from deploy_robust.artefact.exporter import Calibration, ExportRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import CalibrationRecord, FileRecord, Manifest, ModelRecord, manifest_path
from deploy_robust.artefact.onnx_graph import METADATA_PREFIX
from deploy_robust.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.exporting.images import Images
    from deploy_robust.app.exporting.wanted import Wanted
    from deploy_robust.artefact.exporter import CalibrationMethod, Exported, ExportSettings
    from deploy_robust.artefact.manifest import CrossCheckRecord, ParityFigure
    from deploy_robust.models.checkpoints import CheckpointInfo
    from deploy_robust.models.derainer import Derainer


@dataclass(frozen=True, slots=True)
class ExportedArtefact:
    """One line of the table that an export ends with.

    Attributes:
        path: The artefact.
        manifest: What is known of it.
        verified: What was measured of it.
        megabytes: Its size in 10**6 bytes, companions included.
        seconds: Wall time of export and verification.
    """

    path: Path
    manifest: Manifest
    verified: Verified
    megabytes: float
    seconds: float


class Job:
    """Makes artefacts of one network, and the steps to them."""

    def __init__(
        self,
        network: Derainer,
        info: CheckpointInfo,
        images: Images,
        method: CalibrationMethod,
        settings: ExportSettings,
        out: Path,
        scratch: Path,
        on_step: Callable[[str], None],
    ) -> None:
        self.network, self.info, self.images, self.method, self.settings = network, info, images, method, settings
        self.out, self.scratch, self.on_step = out, scratch, on_step
        self.io = IODescription(size=network.size_rule)
        self.stem = f"{info.identity.name}-{info.identity.preset}"
        self._verifier = Verifier(network, self.io, tuple(images.crops()))
        self._made: dict[tuple[str, str], ExportedArtefact] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._source: FileRecord | None = None

    @property
    def kept(self) -> list[ExportedArtefact]:
        """The artefacts in the user's folder, in the order in which they were made."""
        return [made for made in self._made.values() if made.path.parent == self.out]

    def make(self, thing: Wanted, *, keep: bool) -> ExportedArtefact:
        """Makes one artefact; without `keep` it goes to the scratch folder, as a step to another.

        Raises:
            ExportError: It cannot be made, or parity is broken.
            EnvironmentProblem: A library is missing.
        """
        each, key = thing.exporter, (thing.exporter.target, thing.name)
        done = self._made.get(key)
        if done is not None and (done.path.parent == self.out or not keep):
            return done
        if key in self._refused:
            raise ExportError(self._refused[key])
        started = time.perf_counter()
        # What an engine was built from is evidence: it stays beside the engine.
        graph = None if thing.start is None else self._start(thing.start, keep=keep and each.target != ONNX)
        self.on_step(f"exporting {each.target} {thing.name}")
        folder = self.out if keep else self.scratch
        path = folder / f"{self.stem}-{thing.name}{each.suffix}"
        calibration = self.images.record(self.method) if each.calibrates else None
        verified: list[Verified] = []

        def verify(file: Path) -> tuple[ParityFigure, ...]:
            self.on_step(f"verifying {each.target} {thing.name}")
            fp32 = self._made.get((ONNX, "fp32"))
            own = file if each.target == ONNX else graph
            verified.append(
                self._verifier.verify(each, thing.precision, file, own, None if fp32 is None else fp32.path)
            )
            return verified[-1].parity

        try:
            exported = each.export(
                ExportRequest(
                    path=path,
                    module=self.network.for_export().eval().requires_grad_(False),
                    size_rule=self.network.size_rule,
                    verify=verify,
                    graph=graph,
                    calibration=Calibration(lambda: self.images.padded(self.network.size_rule), self.method),
                    metadata=self._metadata(thing, calibration),
                    settings=self.settings,
                )
            )
        except ExportError as error:
            self._refused[key] = str(error)
            raise
        try:
            check = self._cross_check(thing, exported) if keep else None
            manifest = replace(self._manifest(thing, exported, graph, calibration, keep=keep), cross_check=check)
            if keep:
                manifest.write(folder)
        except BaseException:
            for file in (path, manifest_path(path), *exported.companions):
                file.unlink(missing_ok=True)
            raise
        if self.settings.cross_check is not None and check is None and keep:
            note = f"no cross-check: Polygraphy has no runner for {each.target}"
            verified.append(replace(verified[-1], notes=(*verified[-1].notes, note)))
        size = sum(file.stat().st_size for file in (path, *exported.companions)) / 1e6
        self._made[key] = ExportedArtefact(path, manifest, verified[-1], size, time.perf_counter() - started)
        return self._made[key]

    def _cross_check(self, thing: Wanted, exported: Exported) -> CrossCheckRecord | None:
        """What Polygraphy makes of the artefact; None where it is not asked, or has no runner for it."""
        if self.settings.cross_check is None or thing.exporter.target != ONNX:
            return None
        from deploy_robust.app.exporting.cross_check import polygraphy_check

        fp32 = None if thing.precision == "fp32" else self._start("fp32", keep=False)
        self.on_step(f"cross-checking {thing.name}")
        images = [crop.rainy for crop in self.images.crops()]
        return polygraphy_check(thing.exporter, thing.precision, exported.path, fp32, self.network, images)

    def _start(self, name: str, *, keep: bool) -> Path:
        return self.make(wanted([name], [ONNX])[0], keep=keep).path

    def _metadata(self, thing: Wanted, calibration: CalibrationRecord | None) -> dict[str, str]:
        essentials = {
            "version": __version__,
            "model": self.info.identity.name,
            "preset": self.info.identity.preset,
            "arguments": json.dumps(dict(self.info.identity.arguments), sort_keys=True),
            "weights_sha256": self.info.weights_sha256,
            "precision": thing.precision,
            "io": json.dumps(self.io.to_dict(), sort_keys=True),
        }
        if calibration is not None:
            essentials["calibration"] = f"{calibration.method} on {calibration.count} images, {calibration.sha256}"
        return {METADATA_PREFIX + key: value for key, value in essentials.items()}

    def _manifest(
        self,
        thing: Wanted,
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
            precision=thing.precision,
            exporter=thing.exporter.name,
            versions=dict(exported.versions),
            io=self.io,
            model=ModelRecord(identity.name, identity.preset, dict(identity.arguments)),
            source=self._source,
            graph=None if graph is None else FileRecord.of(graph),
            calibration=calibration,
            parity=exported.parity,
            companions=tuple(FileRecord.of(file) for file in exported.companions),
        )

    def _keep_weights(self) -> FileRecord:
        """The weights beside the artefacts, so that a check finds its source."""
        from deploy_robust.models.checkpoints import save_checkpoint

        path = self.out / f"{self.stem}.safetensors"
        save_checkpoint(path, self.network, self.info.record)
        return FileRecord.of(path)
