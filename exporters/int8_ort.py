"""fp32 ONNX to int8 Q/DQ for ONNX Runtime on a CPU: uint8 asymmetric activations, int8 weights per channel.

This profile is the fast one there (0.55 of the fp32 time with AVX2 alone). Its non-zero zero-points are what TensorRT
refuses and what OpenVINO 2026.4 misread, so it belongs to ONNX Runtime's CPU provider alone.

Weights use 7 of their 8 bits. An x86 CPU without VNNI adds two products of an 8-bit code and an 8-bit weight in 16
bits and may saturate. Worst of six 96 px crops of PReNet (official weights) against fp32, on one such CPU (AVX2), as
written / as fused by ONNX Runtime: 8-bit weights 35 / 15 dB, 7-bit weights 34.7 / 34.5 dB. No CPU
with VNNI was tried.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.artefact.exporter import Exported
from deploy_robust.artefact.files import atomic
from deploy_robust.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx
    from numpy.typing import NDArray

    from deploy_robust.artefact.exporter import Calibration, CalibrationMethod, ExportRequest

TILE = 128
"""Side in pixels of the tiles that the histogram methods see: they hold every tensor of a pass in memory."""

_HISTOGRAM_OPTIONS: dict[str, dict[str, Any]] = {
    # ONNX Runtime's percentile is symmetric by default and would waste half of the codes on rectified tensors.
    "percentile": {"num_bins": 2048, "percentile": 99.999, "symmetric": False},
    # Its 128 bins for 128 levels leave the entropy search nothing to choose, and its answer is min-max.
    "entropy": {"num_bins": 2048, "num_quantized_bins": 128, "symmetric": False},
    "minmax": {},
}


class Int8Ort:
    """The int8 artefact for ONNX Runtime on a CPU."""

    name = "int8"
    precision = "int8"
    suffix = ".onnx"
    starts_from = "fp32"
    calibrates = True

    def export(self, request: ExportRequest) -> Exported:
        """Calibrates, quantises, checks, verifies and renames; see `Exporter.export`."""
        import onnx
        import onnxruntime

        if request.graph is None or request.calibration is None:
            raise ExportError("int8 needs the fp32 graph and calibration images")
        try:
            with _quiet(), tempfile.TemporaryDirectory(prefix="deploy-robust-") as folder:
                model = quantise(request.graph, request.calibration, Path(folder))
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ExportError(f"onnxruntime.quantization failed on {request.graph.name}: {error}") from error
        onnx.helper.set_model_props(model, dict(request.metadata))
        with atomic(request.path) as temporary:
            onnx.save_model(model, str(temporary))
            try:
                onnx.checker.check_model(str(temporary), full_check=True)
            except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
                raise ExportError(f"the quantised graph is refused by ONNX's own checker: {error}") from error
            parity = request.verify(temporary)
        return Exported(request.path, parity, {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__})


def quantise(graph: Path, calibration: Calibration, folder: Path) -> onnx.ModelProto:
    """The int8 graph in memory.

    Args:
        graph: fp32 graph with NCHW input in [0, 1].
        calibration: Images and method.
        folder: For the library's temporary files.

    Raises:
        ValueError: There are no images, or the library refuses the graph.
    """
    import onnxruntime
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    # Symbolic inference gives up on graphs with computed sizes, and ONNX's own is enough for ranges of float tensors.
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    # The library keeps its operator types in a set: sorted, the graph comes out in the same order in every process.
    kinds = sorted({*QLinearOpsRegistry, *QDQRegistry})
    ranges = _collect_ranges(prepared, kinds, calibration, folder)
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(prepared),
        True,  # per channel
        True,  # 7-bit weights
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        [],
        kinds,
        {"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    model.producer_name, model.producer_version = "onnxruntime.quantization", onnxruntime.__version__
    return model


def _collect_ranges(prepared: Path, kinds: Sequence[str], calibration: Calibration, folder: Path) -> Any:
    """Range of every tensor. One image at a time, so that sizes may differ and only one pass is held in memory."""
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {"minmax": Method.MinMax, "percentile": Method.Percentile, "entropy": Method.Entropy}
    calibrator = create_calibrator(
        prepared,
        kinds,
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=methods[calibration.method],
        providers=["CPUExecutionProvider"],
        extra_options=_HISTOGRAM_OPTIONS[calibration.method],
    )
    name = calibrator.infer_session.get_inputs()[0].name
    seen = 0
    for image in calibration.images():
        for batch in _passes(image, calibration.method):
            calibrator.collect_data(_OneBatch(name, batch))
            seen += 1
    if not seen:
        raise ValueError("there are no calibration images")
    return calibrator.compute_data()


def _passes(image: NDArray[np.uint8], method: CalibrationMethod) -> Iterator[NDArray[np.float32]]:
    """(1, 3, H, W) float32 in [0, 1]: the whole image for min-max, else tiles that cover all of it."""
    batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
    if method == "minmax":
        yield batch
        return
    height, width = batch.shape[2:]
    for top in _starts(height):
        for left in _starts(width):
            yield np.ascontiguousarray(batch[:, :, top : top + TILE, left : left + TILE])


def _starts(length: int) -> list[int]:
    """First pixels of tiles that cover `length`; the last one is moved back so that it is whole."""
    if length <= TILE:
        return [0]
    return [*range(0, length - TILE, TILE), length - TILE]


class _OneBatch:
    """A calibration reader over a single batch: the library asks `get_next` until it answers None."""

    def __init__(self, name: str, batch: NDArray[np.float32]) -> None:
        self._next: dict[str, NDArray[np.float32]] | None = {name: batch}

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The batch once, then None."""
        batch, self._next = self._next, None
        return batch


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library prints its progress and warns through the root logger."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


EXPORTER = Int8Ort()
