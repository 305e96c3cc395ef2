"""Torch network to an fp32 ONNX file with dynamic batch, height and width, by way of ``torch.export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.exporter import Opening
from deploy_robust.artefact.io_description import SMALLEST_SIDE
from deploy_robust.errors import ExportError, first_line
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.quiet import quiet

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from deploy_robust.artefact.exporter import Exported, ExportRequest
    from deploy_robust.artefact.io_description import SizeRule

INPUT, OUTPUT = "rainy", "derained"
OPSET = 21
"""19 is the least for Q/DQ of float16 tensors, 21 what the precision variants made from this graph are written in."""

EXAMPLE = (64, 96)
"""(height, width) that a network is traced at."""


class OnnxFp32:
    """The graph that every other precision starts from."""

    name = "fp32"
    target = "onnx"
    precision = "fp32"
    suffix = ".onnx"
    starts_from = None
    calibrates = False
    opening = Opening()

    def export(self, request: ExportRequest) -> Exported:
        """Exports, checks, verifies and renames; see `Exporter.export`.

        The same weights and libraries give the same bytes everywhere: traces of source files are removed.
        """
        return finished(request, to_onnx(request.module, request.size_rule), ("torch", "onnx", "onnxscript"))


def to_onnx(module: nn.Module, rule: SizeRule, opset: int = OPSET) -> onnx.ModelProto:
    """The graph of a network in memory; input (N, 3, H, W) float32 ``rainy``, output ``derained``.

    Sizes are dynamic in steps of the rule's multiple, or fixed where the rule is.

    Raises:
        ExportError: ``torch.export`` cannot trace the network, or the graph is not one image in, one image out.
    """
    height, width = rule.padded(*EXAMPLE) if rule.fixed is None else rule.fixed
    # Batch 2, because torch.export specialises a graph on a dimension of 1.
    example = torch.zeros(2, 3, height, width)
    module.eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=(dynamic_shape(rule),),
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(
            f"torch.export cannot turn {type(module).__name__} into a graph with sizes {rule}: {first_line(error)}; "
            "use sizes only through tensor shapes and H // 2, not int(H / 2)"
        ) from error
    if program is None:
        raise ExportError(f"torch.onnx.export returned nothing for {type(module).__name__}")
    model = program.model_proto
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ExportError(
            f"{type(module).__name__} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs: "
            "its forward must take and return one image batch"
        )
    _check_dynamic(module, model, rule)
    strip_traces(model)
    return model


def _check_dynamic(module: nn.Module, model: onnx.ModelProto, rule: SizeRule) -> None:
    """Where strict tracing fails, torch falls back to one that freezes a size without a word.

    With a multiple above 1 the frozen size does not even show in the graph: only parity at other sizes finds that.
    """
    if rule.fixed is not None:
        return
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if frozen := [str(dims[axis].dim_value) for axis in (0, 2, 3) if dims[axis].HasField("dim_value")]:
        raise ExportError(
            f"{type(module).__name__} depends on the size of the example ({', '.join(frozen)} is frozen in its graph): "
            "use H // 2 and not int(H / 2), and no branches on sizes"
        )


def dynamic_shape(rule: SizeRule) -> dict[int, Any]:
    """Which axes of (N, 3, H, W) are dynamic, for ``torch.export``: batch, and sizes in steps of a multiple."""
    from torch.export import Dim

    shape: dict[int, Any] = {0: Dim("batch", min=1)}
    if rule.fixed is None:
        step = rule.multiple
        for axis, name in ((2, "height"), (3, "width")):
            least = -(-SMALLEST_SIDE // step)
            shape[axis] = Dim(name, min=least) if step == 1 else step * Dim(f"{name}_steps", min=least)
    return shape


def strip_traces(model: onnx.ModelProto) -> None:
    """Removes doc strings and the exporter's notes: they hold stack traces with paths of the exporting machine."""
    model.doc_string = ""
    holders = [model.graph, *model.functions]
    for holder in holders:
        holder.doc_string = ""
        del holder.metadata_props[:]
        for node in holder.node:
            node.doc_string = ""
            del node.metadata_props[:]
    graph = model.graph
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    # Shapes of weights are repeated there; ONNX infers the rest again.
    del graph.value_info[:]


EXPORTER = OnnxFp32()
