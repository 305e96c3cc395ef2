"""Quantises one graph with NVIDIA's modelopt; run by the Python of modelopt's own environment, with no import of ours.

    python modelopt_worker.py REQUEST.json

The request names the graph, a ``.npz`` of calibration images (each (1, 3, H, W) float32), the method, the nodes to
leave in float, and where the result goes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Reads the request and writes the graph."""
    # Python puts this folder first, and its files are named as libraries are.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import modelopt
    import numpy as np
    from modelopt.onnx.quantization import quantize
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    images = np.load(request["images"])
    batches = [images[name] for name in images.files]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            """Starts over: the library reads more than once."""
            self._left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            """The next image, or None."""
            batch = next(self._left, None)
            return None if batch is None else {request["input"]: batch}

        def get_first(self) -> dict[str, Any]:
            """The first image, whatever was read."""
            return {request["input"]: batches[0]}

    quantize(
        request["graph"],
        "int8",
        calibration_data_reader=Reader(),
        calibration_method=request["method"],
        calibration_eps=["cpu"],
        calibration_shapes=f"{request['input']}:{'x'.join(map(str, batches[0].shape))}",
        op_types_to_quantize=request["kinds"],
        nodes_to_exclude=[f"^{re.escape(name)}$" for name in request["excluded"]],
        high_precision_dtype="fp32",
        output_path=request["out"],
        log_level="ERROR",
    )
    print(f"modelopt {modelopt.__version__}")  # noqa: T201  # read by the caller


if __name__ == "__main__":
    main()
