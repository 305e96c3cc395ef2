"""Typed ONNX graph to a TensorRT plan for the GPU at hand; precision is what the graph says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from deploy_robust.artefact.exporter import Exported, Opening
from deploy_robust.artefact.files import atomic
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.errors import ExportError
from deploy_robust.exporters.tensorrt_build import BuildSettings, build_plan
from deploy_robust.tensorrt import device as devices
from deploy_robust.tensorrt.build_record import record_path
from deploy_robust.tensorrt.loading import load
from deploy_robust.tensorrt.profiles import Profile

if TYPE_CHECKING:
    from deploy_robust.artefact.exporter import ExportRequest, ExportSettings

_CHANNELS = 3


class TensorrtPlan:
    """A plan, built strongly typed; never run on a GPU so far."""

    name = "tensorrt"
    target = "tensorrt"
    precision = None
    suffix = ".plan"
    starts_from = "fp32"
    calibrates = False
    opening = Opening(kind="tensorrt", device="cuda")

    def export(self, request: ExportRequest) -> Exported:
        """Validates the graph, builds, verifies and renames plan and build record; see `Exporter.export`.

        Raises:
            ExportError: TensorRT would refuse the graph, or parity is broken.
            EnvironmentProblem: TensorRT or the GPU is missing.
            UsageError: The graph has open sizes and no shape profile was given.
        """
        trt = load()
        device = devices.open_device(self.opening.device)
        if request.graph is None:
            raise ExportError("a plan needs the graph that it is built from")
        if broken := findings(onnx.load(str(request.graph))):
            raise ExportError(f"TensorRT would refuse {request.graph.name}: {broken[0]} ({len(broken)} findings)")
        with atomic(request.path) as temporary:
            written = record_path(temporary)
            try:
                record = build_plan(trt, request.graph, temporary, _settings(request.settings), device)
                parity = request.verify(temporary)
                # A record follows its plan to the final name; without its plan it vouches for nothing.
                replace(record, plan=replace(record.plan, file=request.path.name)).write(request.path)
            finally:
                written.unlink(missing_ok=True)
        return Exported(request.path, parity, {"tensorrt": record.tensorrt}, (record_path(request.path),))


def _settings(chosen: ExportSettings) -> BuildSettings:
    profile = chosen.profile
    if profile is None:
        return BuildSettings(tf32=chosen.tf32, timing_cache=chosen.timing_cache)
    least, best, most = (
        (batch, _CHANNELS, height, width) for batch, height, width in (profile.least, profile.best, profile.most)
    )
    return BuildSettings(profiles=(Profile(least, best, most),), tf32=chosen.tf32, timing_cache=chosen.timing_cache)


EXPORTER = TensorrtPlan()
