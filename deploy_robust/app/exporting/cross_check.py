"""The cross-check: an artefact and its fp32 reference run again, by Polygraphy's runners instead of our engines.

Another program opens the files, feeds them and stores what it saw, in files that the ``polygraphy`` command reads. The
figures are ours: Polygraphy's perceptual metric counts as passed where it could not be computed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from deploy_robust.artefact.manifest import IDENTICAL, CrossCheckRecord, FileRecord
from deploy_robust.errors import EnvironmentProblem, ExportError, first_line
from deploy_robust.exporters.onnx_fp32 import INPUT, OUTPUT
from deploy_robust.exporters.quiet import quiet
from deploy_robust.gate.parity import CONVERSION, compare, worst
from deploy_robust.restorer import pad_to_rule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.artefact.exporter import Exporter
    from deploy_robust.models.derainer import Derainer

ARTEFACT, REFERENCE = "artefact", "reference"
"""Names of the two runners in the stored outputs."""


def polygraphy_check(
    each: Exporter, precision: str, artefact: Path, fp32: Path | None, network: Derainer, images: Sequence[Tensor]
) -> CrossCheckRecord:
    """Runs both, stores inputs and outputs beside the artefact, and compares.

    Args:
        each: Who made the artefact.
        precision: Its precision, for the bound of conversion.
        artefact: An ONNX graph.
        fp32: The fp32 graph as reference; None takes the network in torch, for a graph that is of fp32 itself.
        network: The network, in eval mode on the CPU.
        images: (1, 3, H, W) float32 in [0, 1]; padded here to the sizes that the network takes.

    Raises:
        EnvironmentProblem: Polygraphy is not installed.
        ExportError: It cannot run the graph, or the two are further apart than conversion parity allows. The stored
            files are then removed.
    """
    try:
        import polygraphy
        from polygraphy.comparator import Comparator
        from polygraphy.logger import G_LOGGER
    except ImportError as error:
        raise EnvironmentProblem(
            f"the cross-check needs polygraphy ({error}): pip install polygraphy, or leave --cross-check out"
        ) from error
    inputs, outputs = (artefact.with_name(f"{artefact.name}.{what}.json") for what in ("inputs", "outputs"))
    feeds = [OrderedDict({INPUT: pad_to_rule(x, network.size_rule).numpy()}) for x in images]
    try:
        with quiet(), G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            reference = _torch_runner(network) if fp32 is None else _session_runner(fp32, REFERENCE, literal=False)
            literal = each.opening.arithmetic == "literal"
            runners = [_session_runner(artefact, ARTEFACT, literal=literal), reference]
            results = Comparator.run(runners, data_loader=feeds, save_inputs_path=str(inputs))
            results.save(str(outputs))
        figures = list(_figures(results))
        low, bound = worst(figures), CONVERSION[precision]
        if not all(bound.holds(figure) for figure in figures):
            raise ExportError(
                f"Polygraphy's run of {artefact.name} is off its fp32 reference at {low}, and the bound is {bound}; "
                "nothing was left behind"
            )
    except BaseException as error:
        for file in (inputs, outputs):
            file.unlink(missing_ok=True)
        if isinstance(error, (ExportError, KeyboardInterrupt)) or not isinstance(error, Exception):
            raise
        raise ExportError(
            f"Polygraphy cannot run {artefact.name} ({first_line(error)}): leave --cross-check out for {precision}"
        ) from error
    return CrossCheckRecord(
        tool=f"polygraphy {polygraphy.__version__}",
        reference="torch" if fp32 is None else "fp32 graph",
        images=len(figures),
        psnr_db=IDENTICAL if low.identical else low.psnr_db,
        max_abs=low.max_abs,
        inputs=FileRecord.of(inputs),
        outputs=FileRecord.of(outputs),
    )


def _session_runner(graph: Path, name: str, *, literal: bool) -> Any:
    import onnxruntime
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    levels = onnxruntime.GraphOptimizationLevel
    level = levels.ORT_DISABLE_ALL if literal else levels.ORT_ENABLE_ALL
    return OnnxrtRunner(SessionFromOnnx(str(graph), providers=["cpu"], graph_optimization_level=level), name=name)


def _torch_runner(network: Derainer) -> Any:
    """The network as a Polygraphy runner; its own one for torch takes a GPU for granted."""
    import time

    import numpy as np
    import torch
    from polygraphy.backend.base import BaseRunner
    from polygraphy.common import TensorMetadata

    class TorchRunner(BaseRunner):  # type: ignore[misc]
        def get_input_metadata_impl(self) -> Any:
            return TensorMetadata().add(INPUT, dtype=np.float32, shape=(None, 3, None, None))

        def infer_impl(self, feed_dict: Any) -> Any:
            started = time.perf_counter()
            with torch.no_grad():
                answer = network(torch.from_numpy(feed_dict[INPUT]))
            self.inference_time = time.perf_counter() - started
            return OrderedDict({OUTPUT: answer.numpy()})

        def activate_impl(self) -> None:
            """Nothing to make ready."""

        def deactivate_impl(self) -> None:
            """Nothing to let go of."""

    return TorchRunner(name=REFERENCE)


def _figures(results: Any) -> Any:
    import torch

    pairs = zip(results[ARTEFACT], results[REFERENCE], strict=True)
    for found, right in pairs:
        yield from compare(torch.from_numpy(right[OUTPUT]), torch.from_numpy(found[OUTPUT]))
