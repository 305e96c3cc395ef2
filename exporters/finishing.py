"""The last step of every exporter that writes an ONNX graph: metadata, ONNX's own checker, parity, the name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from deploy_robust.artefact.exporter import Exported
from deploy_robust.artefact.files import atomic
from deploy_robust.errors import ExportError, first_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from deploy_robust.artefact.exporter import ExportRequest


def finished(request: ExportRequest, model: onnx.ModelProto, libraries: Sequence[str]) -> Exported:
    """Writes a graph under a temporary name, checks and verifies it, and renames it.

    Args:
        request: Where it goes, how it is verified.
        model: The graph; its metadata is replaced.
        libraries: Modules that took part.

    Raises:
        ExportError: ONNX's own checker refuses the graph, or parity is broken.
    """
    import onnx

    onnx.helper.set_model_props(model, dict(request.metadata))
    with atomic(request.path) as temporary:
        onnx.save_model(model, str(temporary))
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"ONNX's own checker refuses the graph: {first_line(error)}") from error
        parity = request.verify(temporary)
    return Exported(request.path, parity, {name: importlib.import_module(name).__version__ for name in libraries})
