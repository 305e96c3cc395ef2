"""fp32 ONNX graph to an int8 OpenVINO IR, quantised by nncf after training."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.artefact.exporter import Exported, Opening
from deploy_robust.errors import ExportError
from deploy_robust.exporters.openvino_ir import library, read_graph, version_of, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from deploy_robust.artefact.exporter import Calibration, ExportRequest


class Int8Nncf:
    """The int8 artefact for OpenVINO, in the form that its own kernels were made for."""

    name = "int8-nncf"
    target = "openvino"
    precision = "int8"
    suffix = ".xml"
    starts_from = "fp32"
    calibrates = True
    opening = Opening(kind="openvino")

    def export(self, request: ExportRequest) -> Exported:
        """Calibrates, quantises, verifies and renames; see `Exporter.export`."""
        openvino = library("openvino")
        # Its telemetry reports every call over the network; this is the switch that it has.
        os.environ.setdefault("NNCF_CI", "1")
        nncf = library("nncf")
        if request.calibration is None:
            raise ExportError("int8-nncf needs calibration images")
        model = read_graph(openvino, request.graph)
        model = _quantised(nncf, model, request.calibration)
        return written(request, model, {"openvino": version_of(openvino), "nncf": str(nncf.__version__)})


def _quantised(nncf: Any, model: Any, calibration: Calibration) -> Any:
    images = list(_batches(calibration))
    if not images:
        raise ExportError("int8-nncf needs calibration images, and there are none")
    try:
        with _quiet(nncf):
            return nncf.quantize(
                model,
                nncf.Dataset(images),
                subset_size=len(images),
                advanced_parameters=_ranges(nncf, calibration.method),
            )
    except ExportError:
        raise
    except Exception as error:  # nncf has no error of its own for a graph that it cannot quantise
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"nncf failed ({type(error).__name__}: {reason})") from error


def _ranges(nncf: Any, method: str) -> Any:
    """How ranges of activations are drawn.

    Raises:
        ExportError: nncf has no such method.
    """
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if method == "minmax":
        found = RangeEstimatorParametersSet.MINMAX
    elif method == "percentile":
        low, high = (
            StatisticsCollectorParameters(
                statistics_type=StatisticsType.QUANTILE, aggregator_type=AggregatorType.MEAN, quantile_outlier_prob=1e-5
            )
            for _ in range(2)
        )
        found = RangeEstimatorParameters(min=low, max=high)
    else:
        raise ExportError(f"nncf draws no ranges by {method}: use --method minmax or percentile")
    return nncf.AdvancedQuantizationParameters(activations_range_estimator_params=found)


def _batches(calibration: Calibration) -> Iterator[NDArray[np.float32]]:
    """(1, 3, H, W) float32 in [0, 1]; sizes may differ."""
    for image in calibration.images():
        yield np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


@contextlib.contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """The library prints progress bars and logs its own progress."""
    nncf.set_log_level(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


EXPORTER = Int8Nncf()
