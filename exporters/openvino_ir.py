"""ONNX graph to OpenVINO IR: an ``.xml`` and its weights in a ``.bin``, as they are, nothing compressed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from deploy_robust.artefact.exporter import Exported, Opening
from deploy_robust.artefact.files import atomic
from deploy_robust.artefact.hashing import BIN_HASH, sha256_of
from deploy_robust.errors import EnvironmentProblem, ExportError

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.artefact.exporter import ExportRequest

_REMEDY = "pip install 'deploy-robust[openvino]', in an environment of its own where versions conflict"


class OpenVinoIr:
    """A graph of any precision for OpenVINO's CPU device."""

    name = "openvino"
    target = "openvino"
    precision = None
    suffix = ".xml"
    starts_from = "fp32"
    calibrates = False
    opening = Opening(kind="openvino")

    def export(self, request: ExportRequest) -> Exported:
        """Reads the graph, writes both files, verifies and renames; see `Exporter.export`."""
        openvino = library("openvino")
        return written(request, read_graph(openvino, request.graph), {"openvino": version_of(openvino)})


def library(name: str) -> Any:
    """An optional package.

    Raises:
        EnvironmentProblem: It is missing, or does not load.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except Exception as error:  # a wheel for another machine fails in its own ways
        raise EnvironmentProblem(f"{name} cannot be imported ({error}): {_REMEDY}") from error


def version_of(openvino: Any) -> str:
    """The release, without its build number."""
    return str(openvino.__version__).split("-", maxsplit=1)[0]


def read_graph(openvino: Any, graph: Path | None) -> Any:
    """An ``openvino.Model`` of an ONNX file.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    if graph is None:
        raise ExportError("an OpenVINO artefact is made from an ONNX graph, and there is none")
    try:
        return openvino.Core().read_model(str(graph))  # convert_model would report itself over the network
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"OpenVINO cannot read {graph.name}: {reason}") from error


def written(request: ExportRequest, model: Any, versions: dict[str, str]) -> Exported:
    """Both files under their names, once they are verified.

    The hash of the weights stands in the ``.xml``, so that the hash of that one covers both.

    Raises:
        ExportError: Parity is broken.
        InputError: A file cannot be written.
    """
    openvino = library("openvino")
    weights = request.path.with_suffix(".bin")
    for key, value in request.metadata.items():
        model.set_rt_info(value, key.split("."))
    with atomic(request.path) as temporary:
        beside = temporary.with_suffix(".bin")
        try:
            openvino.save_model(model, str(temporary), compress_to_fp16=False)
            model.set_rt_info(sha256_of(beside), list(BIN_HASH))
            openvino.save_model(model, str(temporary), compress_to_fp16=False)
            parity = request.verify(temporary)
            # The weights come first: a kill in between leaves a pair that the engine refuses, not a mixed one.
            beside.replace(weights)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    return Exported(request.path, parity, versions, companions=(weights,))


EXPORTER = OpenVinoIr()
