"""fp32 ONNX to int8 Q/DQ for ONNX Runtime on a CPU: uint8 asymmetric activations, int8 weights per channel.

This profile is the fast one there (0.55 of the fp32 time with AVX2 alone). Its non-zero zero-points are what TensorRT
refuses, so it belongs to ONNX Runtime's CPU provider alone.

Weights use 7 of their 8 bits. An x86 CPU without VNNI adds two products of an 8-bit code and an 8-bit weight in 16
bits and may saturate. Worst of six 96 px crops of PReNet (official weights) against fp32, on one such CPU (AVX2), as
written / as fused by ONNX Runtime: 8-bit weights 35 / 15 dB, 7-bit weights 34.7 / 34.5 dB.

Only what multiplies by weights is quantised, with the Relu behind it: sums, products and gates stay in float, and so do
the first and the last convolution unless the user says otherwise. That costs little time and gives 2 to 28 dB of parity
(docs/decisions/0048-int8-placement.md).
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.artefact.exporter import Opening
from deploy_robust.errors import ExportError
from deploy_robust.exporters.calibration import collect_ranges
from deploy_robust.exporters.ends import NothingLeftError, end_convolutions, left_in_float
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from deploy_robust.artefact.exporter import Calibration, Exported, ExportRequest


QUANTISED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu")
"""Operator types with codes at their inputs and outputs."""


class Int8Ort:
    """The int8 artefact for ONNX Runtime on a CPU."""

    name = "int8"
    target = "onnx"
    precision = "int8"
    suffix = ".onnx"
    starts_from = "fp32"
    calibrates = True
    opening = Opening()

    def export(self, request: ExportRequest) -> Exported:
        """Calibrates, quantises, checks, verifies and renames; see `Exporter.export`."""
        if request.graph is None or request.calibration is None:
            raise ExportError("int8 needs the fp32 graph and calibration images")
        try:
            with quiet(), tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
                excluded = partial(left_in_float, settings=request.settings)
                model = quantise(request.graph, request.calibration, Path(folder), excluded)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ExportError(f"onnxruntime.quantization failed on {request.graph.name}: {error}") from error
        return finished(request, model, ("onnx", "onnxruntime"))


def quantise(
    graph: Path,
    calibration: Calibration,
    folder: Path,
    excluded: Callable[[onnx.ModelProto], list[str]] = end_convolutions,
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
    # Symbolic inference gives up on graphs with computed sizes, and ONNX's own is enough for ranges of float tensors.
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    kinds = list(QUANTISED)
    ranges = collect_ranges(prepared, kinds, calibration, folder, symmetric=False)
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(prepared),
        True,  # per channel
        True,  # 7-bit weights
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        excluded(onnx.load(str(prepared))),
        kinds,
        {"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise NothingLeftError(graph.name)
    model.producer_name, model.producer_version = "onnxruntime.quantization", onnxruntime.__version__
    return model


EXPORTER = Int8Ort()
