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

from typing import TYPE_CHECKING

from deploy_robust.artefact.exporter import Opening
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.qdq import QdqProfile, quantised

if TYPE_CHECKING:
    from deploy_robust.artefact.exporter import Exported, ExportRequest

PROFILE = QdqProfile(
    kinds=("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu"),
    symmetric=False,
    seven_bit_weights=True,
)


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
        return finished(request, quantised(request, PROFILE), ("onnx", "onnxruntime"))


EXPORTER = Int8Ort()
