"""Int8 graphs of the zoo in both profiles, and what ONNX Runtime computes at every node of a graph."""

from __future__ import annotations

import functools
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from deploy_robust.artefact.exporter import Calibration
from deploy_robust.exporters.ends import end_convolutions
from deploy_robust.exporters.int8_ort import PROFILE
from deploy_robust.exporters.onnx_fp32 import to_onnx
from deploy_robust.exporters.qdq import quantise
from deploy_robust.models.registry import MODELS

SYMMETRIC = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
    "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul"],
}


def images(count: int = 3, size: int = 64):
    """Calibration images, (H, W, 3) uint8: ramps with noise."""
    draw = np.random.default_rng(2)
    for _ in range(count):
        ramp = np.linspace(0, 200, size)[:, None, None] + np.zeros((1, size, 3))
        yield (ramp + draw.integers(0, 55, ramp.shape)).clip(0, 255).astype(np.uint8)


def rainy(size: int = 64, count: int = 1) -> torch.Tensor:
    """Images of 8 bits, (N, 3, H, W) in [0, 1], as the calibration saw them."""
    found = [torch.from_numpy(i.transpose(2, 0, 1).copy()) for i in images(count, size)]
    return torch.stack(found).float() / 255


@functools.cache
def fp32(name: str, preset: str = "tiny") -> onnx.ModelProto:
    torch.manual_seed(0)
    model = MODELS.create(name, preset).eval()
    return to_onnx(model, model.size_rule)


def asymmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """uint8 activations with zero points, as our exporter for ONNX Runtime writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        onnx.save_model(model, str(path))
        return quantise(path, Calibration(images), Path(folder), PROFILE, end_convolutions)


def symmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """int8 activations without zero points, weights behind Q/DQ pairs: what TensorRT takes."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    class Reader:
        def __init__(self) -> None:
            self.rest = [i.transpose(2, 0, 1)[None].astype(np.float32) / 255 for i in images()]

        def get_next(self):
            return {model.graph.input[0].name: self.rest.pop()} if self.rest else None

    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            onnx.save_model(model, str(before))
            quantize_static(
                before,
                after,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                extra_options=SYMMETRIC,
            )
            return onnx.load(str(after))
    finally:
        logging.disable(logging.NOTSET)


PROFILES = {"asymmetric": asymmetric, "symmetric": symmetric}


def on_runtime(model: onnx.ModelProto, feed: np.ndarray, *, everything: bool = False) -> dict[str, np.ndarray]:
    """The output, or every value, that ONNX Runtime computes without rewriting the graph."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if everything:
        known = {value.name for value in model.graph.output}
        for node in model.graph.node:
            model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in node.output if n and n not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {model.graph.input[0].name: feed}), strict=True))
