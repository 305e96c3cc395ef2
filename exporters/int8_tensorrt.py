"""fp32 ONNX to int8 Q/DQ for TensorRT: int8 symmetric activations, int8 weights per output channel, float bias.

TensorRT refuses non-zero zero-points and quantised biases. Only inputs and weights of convolutions and matrix products
are quantised: the builder fuses the rest as its kernels allow. Transposed convolutions stay in float, since it is not
settled which axis TensorRT wants their scales on. The first and the last convolution of an image-to-image network are
the sensitive ones, and stay in float unless the user says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.artefact.exporter import Opening
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.errors import ExportError
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.qdq import QdqProfile, quantised

if TYPE_CHECKING:
    from deploy_robust.artefact.exporter import Exported, ExportRequest

QUANTISED = ("Conv", "Gemm", "MatMul")
"""Operator types whose inputs and weights are quantised."""

PROFILE = QdqProfile(
    kinds=QUANTISED,
    symmetric=True,
    seven_bit_weights=False,
    options={
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": list(QUANTISED),
    },
)


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
        model = quantised(request, PROFILE)
        if broken := findings(model):
            raise ExportError(f"TensorRT would refuse the quantised graph: {broken[0]} ({len(broken)} findings)")
        return finished(request, model, ("onnx", "onnxruntime"))


EXPORTER = Int8Tensorrt()
