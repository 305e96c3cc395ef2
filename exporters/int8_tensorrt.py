"""fp32 ONNX to int8 Q/DQ for TensorRT: int8 symmetric activations, int8 weights per output channel, float bias.

TensorRT refuses non-zero zero-points and quantised biases. Only inputs and weights of convolutions and matrix products
are quantised: the builder fuses the rest as its kernels allow. Transposed convolutions stay in float, since it is not
settled which axis TensorRT wants their scales on. The first and the last convolution of an image-to-image network are
the sensitive ones, and stay in float unless the user says otherwise.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.artefact.exporter import Opening
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.errors import ExportError
from deploy_robust.exporters.calibration import collect_ranges
from deploy_robust.exporters.ends import NothingLeftError, left_in_float
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from deploy_robust.artefact.exporter import Calibration, Exported, ExportRequest

QUANTISED = ("Conv", "Gemm", "MatMul")
"""Operator types whose inputs and weights are quantised."""

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
    "OpTypesToExcludeOutputQuantization": list(QUANTISED),
}


class Int8Tensorrt:
    """The int8 artefact for TensorRT; ONNX Runtime runs it too, slowly."""

    name = "int8-tensorrt"
    target = "onnx"
    precision = "int8"
    suffix = ".onnx"
    starts_from = "fp32"
    calibrates = True
    opening = Opening(arithmetic="literal")  # ONNX Runtime's own fusions would be another engine's arithmetic

    def export(self, request: ExportRequest) -> Exported:
        """Calibrates, quantises, checks, verifies and renames; see `Exporter.export`.

        Raises:
            ExportError: As everywhere; and where TensorRT would refuse the graph.
        """
        if request.graph is None or request.calibration is None:
            raise ExportError("int8-tensorrt needs the fp32 graph and calibration images")
        try:
            with quiet(), tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
                excluded = partial(left_in_float, settings=request.settings)
                model = quantise(request.graph, request.calibration, Path(folder), excluded)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ExportError(f"onnxruntime.quantization failed on {request.graph.name}: {error}") from error
        if broken := findings(model):
            raise ExportError(f"TensorRT would refuse the quantised graph: {broken[0]} ({len(broken)} findings)")
        return finished(request, model, ("onnx", "onnxruntime"))


def quantise(
    graph: Path, calibration: Calibration, folder: Path, excluded: Callable[[onnx.ModelProto], list[str]]
) -> onnx.ModelProto:
    """The int8 graph in memory.

    Args:
        graph: fp32 graph with NCHW input in [0, 1].
        calibration: Images and method.
        folder: For the library's temporary files.
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
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    kinds = list(QUANTISED)
    ranges = collect_ranges(prepared, kinds, calibration, folder, symmetric=True)
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(prepared),
        True,  # per channel
        False,  # all eight bits of the weights
        QuantType.QInt8,
        QuantType.QInt8,
        ranges,
        [],
        excluded(onnx.load(str(prepared))),
        kinds,
        dict(_OPTIONS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise NothingLeftError(graph.name)
    model.producer_name, model.producer_version = "onnxruntime.quantization", onnxruntime.__version__
    return model


EXPORTER = Int8Tensorrt()
