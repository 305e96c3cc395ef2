"""fp32 ONNX to int8 Q/DQ for TensorRT by NVIDIA's modelopt, in an environment of its own.

modelopt pins onnx and pulls another onnxruntime over the installed one, so it is never imported here: a process of its
own environment quantises, and what comes back is held to the same rules and parity as every artefact. Where to find
that environment says ``DEPLOY_ROBUST_MODELOPT``: its Python, or a folder that ``make modelopt`` filled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from deploy_robust.artefact.exporter import Exported, Opening
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.errors import EnvironmentProblem, ExportError
from deploy_robust.exporters.ends import left_in_float
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.int8_tensorrt import QUANTISED
from deploy_robust.exporters.onnx_fp32 import INPUT

if TYPE_CHECKING:
    from deploy_robust.artefact.exporter import Calibration, ExportRequest

VARIABLE = "DEPLOY_ROBUST_MODELOPT"

_METHODS = {"minmax": "max", "entropy": "entropy"}
_WORKER = Path(__file__).with_name("modelopt_worker.py")


class Int8Modelopt:
    """The int8 artefact for TensorRT, quantised by the vendor's tool."""

    name = "int8-modelopt"
    target = "onnx"
    precision = "int8"
    suffix = ".onnx"
    starts_from = "fp32"
    calibrates = True
    opening = Opening(arithmetic="literal")

    def export(self, request: ExportRequest) -> Exported:
        """Quantises in the other environment, then checks, verifies and renames; see `Exporter.export`.

        Raises:
            EnvironmentProblem: No environment of modelopt is named, or modelopt does not run there.
            ExportError: As everywhere; where TensorRT would refuse the graph; and for a method that modelopt lacks.
        """
        command, environment = _environment()
        if request.graph is None or request.calibration is None:
            raise ExportError("int8-modelopt needs the fp32 graph and calibration images")
        method = request.calibration.method
        if method not in _METHODS:
            raise ExportError(f"modelopt draws no ranges by {method}: use --method minmax or entropy")
        with tempfile.TemporaryDirectory(prefix="deploy-robust-") as scratch:
            folder = Path(scratch)
            told = {
                "graph": str(request.graph.resolve()),
                "input": INPUT,
                "images": str(_saved(request.calibration, folder / "images.npz")),
                "method": _METHODS[method],
                "kinds": list(QUANTISED),
                "excluded": left_in_float(onnx.load(str(request.graph)), request.settings),
                "out": str(folder / "quantised.onnx"),
            }
            (folder / "request.json").write_text(json.dumps(told), encoding="utf-8")
            said = _run([*command, str(_WORKER), str(folder / "request.json")], environment, folder)
            model = onnx.load(told["out"])
        if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise ExportError(f"modelopt quantised nothing in {request.graph.name}: use int8-tensorrt")
        if broken := findings(model):
            raise ExportError(f"TensorRT would refuse modelopt's graph: {broken[0]} ({len(broken)} findings)")
        name, _, version = said.partition(" ")
        model.producer_name, model.producer_version = name, version
        made = finished(request, model, ("onnx",))
        return Exported(made.path, made.parity, {**made.versions, name: version})


def _environment() -> tuple[list[str], dict[str, str]]:
    """The Python that has modelopt, and the variables that it is to run with."""
    named = os.environ.get(VARIABLE)
    way_out = f"set {VARIABLE} to its Python, or to the folder that `make modelopt` fills (docs/exporting.md)"
    if not named:
        raise EnvironmentProblem(f"int8-modelopt needs NVIDIA's modelopt in an environment of its own: {way_out}")
    where = Path(named)
    if where.is_dir():
        path = os.pathsep.join(filter(None, (str(where.resolve()), os.environ.get("PYTHONPATH"))))
        return [sys.executable], {**os.environ, "PYTHONPATH": path}
    if not where.is_file():
        raise EnvironmentProblem(f"{VARIABLE} names {named}, which is not there: {way_out}")
    return [str(where)], dict(os.environ)


def _saved(calibration: Calibration, path: Path) -> Path:
    """The images as (1, 3, H, W) float32 in [0, 1]; sizes may differ."""
    batches = [
        np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
        for image in calibration.images()
    ]
    if not batches:
        raise ExportError("int8-modelopt needs calibration images, and there are none")
    np.savez(path, *batches)
    return path


def _run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """The last line that the worker printed.

    Raises:
        EnvironmentProblem: modelopt is not there.
        ExportError: It failed on the graph.
    """
    try:
        ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(f"cannot start {command[0]} ({error.strerror}): is it executable for you?") from error
    lines = [line for line in (ended.stderr if ended.returncode else ended.stdout).splitlines() if line.strip()]
    last = lines[-1].strip()[:300] if lines else "it said nothing"
    if ended.returncode == 0 and last.startswith("modelopt "):
        return last
    if "ImportError" in last or "ModuleNotFoundError" in last or "optional ``[onnx]``" in last:
        raise EnvironmentProblem(f"modelopt does not load in the environment that {VARIABLE} names ({last})")
    raise ExportError(f"modelopt failed in its own environment ({last})")


EXPORTER = Int8Modelopt()
