"""fp32 ONNX to fp8 Q/DQ for TensorRT: E4M3 codes with symmetric scales, weights per output channel, float bias.

Q/DQ pairs stand where those of int8 for TensorRT stand; what is largest in calibration is scaled to the largest E4M3
number instead of to 127. Convolutions with fewer than 16 channels on a side, or with more than 32 taps, stay in float:
TensorRT has no fp8 kernels for them, and NVIDIA's own quantiser leaves them out, too. Hopper or newer runs such
engines; none was at hand.

Every runtime here reads the graph as it is written: ONNX Runtime's CPU quantisers and the literal engine give the same
codes, and multiply in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.artefact.exporter import Opening
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.errors import ExportError
from deploy_robust.exporters.ends import NothingLeftError
from deploy_robust.exporters.finishing import finished
from deploy_robust.exporters.int8_tensorrt import PROFILE
from deploy_robust.exporters.qdq import quantised

if TYPE_CHECKING:
    import onnx

    from deploy_robust.artefact.exporter import Exported, ExportRequest

LARGEST = 448.0
"""The largest E4M3 number."""

LEAST_CHANNELS, MOST_TAPS = 16, 32

_LARGEST_INT8 = 127.0


class Fp8:
    """The fp8 artefact for TensorRT; ONNX Runtime runs it too, slowly."""

    name = "fp8"
    target = "onnx"
    precision = "fp8"
    suffix = ".onnx"
    starts_from = "fp32"
    calibrates = True
    opening = Opening(arithmetic="literal")

    def export(self, request: ExportRequest) -> Exported:
        """Calibrates, quantises, checks, verifies and renames; see `Exporter.export`.

        Raises:
            ExportError: As everywhere; where no layer is wide enough; and where TensorRT would refuse the graph.
        """
        try:
            model = quantised(request, PROFILE, narrow_layers)
        except NothingLeftError as error:
            raise ExportError(
                f"fp8 leaves nothing to quantise in {error.graph}: TensorRT's fp8 kernels take layers of "
                f"{LEAST_CHANNELS} channels or more, besides the first and the last one; use int8-tensorrt"
            ) from error
        to_e4m3(model)
        if broken := findings(model):
            raise ExportError(f"TensorRT would refuse the quantised graph: {broken[0]} ({len(broken)} findings)")
        return finished(request, model, ("onnx", "onnxruntime"))


def narrow_layers(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that fp8 kernels do not take; those whose weights are computed among them."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in PROFILE.kinds:
            continue
        shape = shapes.get(node.input[1], ())
        if len(shape) < 2 or min(shape[:2]) < LEAST_CHANNELS or int(np.prod(shape[2:])) > MOST_TAPS:
            found.append(node.name)
    return found


def to_e4m3(model: onnx.ModelProto) -> None:
    """Turns symmetric int8 quantisers into E4M3 ones of the same ranges, in place.

    Args:
        model: Its quantisers have constant scales and int8 zero-points of 0, one initialiser for both of a pair.
    """
    from onnx import TensorProto, helper, numpy_helper

    scales, zeros = set(), set()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scales.add(node.input[1])
            zeros.add(node.input[2])
    for tensor in model.graph.initializer:
        if tensor.name in scales:
            ratio = np.float32(_LARGEST_INT8 / LARGEST)
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * ratio, tensor.name))
        elif tensor.name in zeros:
            codes = bytes(int(np.prod(tensor.dims)))
            kind = TensorProto.FLOAT8E4M3FN
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, tensor.dims, codes, raw=True))


EXPORTER = Fp8()
