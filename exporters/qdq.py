"""Q/DQ graphs by onnxruntime.quantization: one way of making them, and what profiles choose."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import ExportError
from deploy_robust.exporters.calibration import collect_ranges
from deploy_robust.exporters.ends import NothingLeftError, left_in_float
from deploy_robust.exporters.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from deploy_robust.artefact.exporter import Calibration, ExportRequest


@dataclass(frozen=True, slots=True)
class QdqProfile:
    """What the runtime that is to run a graph wants of its codes.

    Attributes:
        kinds: Operator types that are quantised.
        symmetric: Whether activations are int8 around zero; otherwise they are uint8 with a zero-point.
        seven_bit_weights: Whether weights use seven of their eight bits.
        options: More of the library's own, by its names.
    """

    kinds: tuple[str, ...]
    symmetric: bool
    seven_bit_weights: bool
    options: Mapping[str, Any] = field(default_factory=dict)


def quantised(
    request: ExportRequest,
    profile: QdqProfile,
    excluded: Callable[[onnx.ModelProto], list[str]] = lambda _: [],
) -> onnx.ModelProto:
    """The quantised graph that a request asks for, in memory.

    Args:
        request: With fp32 graph and calibration.
        profile: Placement and kind of the codes.
        excluded: Names of nodes that stay in float beside those of `left_in_float`.

    Raises:
        NothingLeftError: Nothing can be quantised.
        ExportError: Graph or calibration are missing, or the library fails.
    """
    if request.graph is None or request.calibration is None:
        raise ExportError("quantising needs the fp32 graph and calibration images")

    def in_float(model: onnx.ModelProto) -> list[str]:
        return sorted({*excluded(model), *left_in_float(model, request.settings)})

    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
            return quantise(request.graph, request.calibration, Path(folder), profile, in_float)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ExportError(f"onnxruntime.quantization failed on {request.graph.name}: {error}") from error


def quantise(
    graph: Path,
    calibration: Calibration,
    folder: Path,
    profile: QdqProfile,
    excluded: Callable[[onnx.ModelProto], list[str]],
) -> onnx.ModelProto:
    """The quantised graph in memory; weights are int8 per output channel.

    Args:
        graph: fp32 graph with NCHW input in [0, 1].
        calibration: Images and method.
        folder: For the library's temporary files.
        profile: Placement and kind of the codes.
        excluded: Names of the nodes of a graph that stay in float.

    Raises:
        NothingLeftError: Nothing can be quantised.
        ValueError: There are no images, or the library refuses the graph.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    # Symbolic inference gives up on graphs with computed sizes, and ONNX's own is enough for ranges of float tensors.
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    kinds = list(profile.kinds)
    ranges = collect_ranges(prepared, kinds, calibration, folder, symmetric=profile.symmetric)
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(prepared),
        True,  # per channel
        profile.seven_bit_weights,
        QuantType.QInt8,
        QuantType.QInt8 if profile.symmetric else QuantType.QUInt8,
        ranges,
        [],
        excluded(onnx.load(str(prepared))),
        kinds,
        {"ActivationSymmetric": profile.symmetric, "WeightSymmetric": True, **profile.options},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise NothingLeftError(graph.name)
    model.producer_name, model.producer_version = "onnxruntime.quantization", onnxruntime.__version__
    return model
