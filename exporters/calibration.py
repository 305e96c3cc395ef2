"""Ranges of the values of a graph, from calibration images, by onnxruntime.quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deploy_robust.artefact.exporter import Calibration, CalibrationMethod

TILE = 128
"""Side in pixels of the tiles that the histogram methods see: they hold every tensor of a pass in memory."""

_HISTOGRAM_OPTIONS: dict[str, dict[str, Any]] = {
    "percentile": {"num_bins": 2048, "percentile": 99.999},
    # Its 128 bins for 128 levels leave the entropy search nothing to choose, and its answer is min-max.
    "entropy": {"num_bins": 2048, "num_quantized_bins": 128},
    "minmax": {},
}


def collect_ranges(
    prepared: Path, kinds: Sequence[str], calibration: Calibration, folder: Path, *, symmetric: bool
) -> Any:
    """Range of every tensor. One image at a time, so that sizes may differ and only one pass is held in memory.

    Args:
        prepared: fp32 graph with NCHW input in [0, 1].
        kinds: Operator types whose inputs and outputs are looked at.
        calibration: Images and method.
        folder: For the library's temporary files.
        symmetric: Whether codes will lie evenly around zero. Otherwise ONNX Runtime's percentile would waste half of
            the codes on rectified tensors.

    Raises:
        ValueError: There are no images.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod as Method
    from onnxruntime.quantization.calibrate import create_calibrator

    methods = {"minmax": Method.MinMax, "percentile": Method.Percentile, "entropy": Method.Entropy}
    calibrator = create_calibrator(
        prepared,
        kinds,
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=methods[calibration.method],
        providers=["CPUExecutionProvider"],
        extra_options={**_HISTOGRAM_OPTIONS[calibration.method], "symmetric": symmetric},
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
