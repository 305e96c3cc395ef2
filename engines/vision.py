"""Downstream networks as engines: ONNX graphs on ONNX Runtime with all their outputs, and weights of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.onnx_graph import read_graph
from deploy_robust.artefact.precision import precision_of
from deploy_robust.engine import Capabilities, EngineOptions
from deploy_robust.engines.onnxruntime_session import open_session, place
from deploy_robust.engines.torch_module import usable_device
from deploy_robust.errors import ArtefactError, EngineDefect, UsageError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.models.vision.network import VisionNetwork


class OnnxVisionEngine:
    """An ONNX graph with one image input and any outputs, on ONNX Runtime.

    Args:
        path: ONNX file.
        device: Torch device string; answers come by way of the host.
        threads: Intra-operator threads; None leaves them to the runtime.

    Raises:
        ArtefactError: The file is damaged, or has another number of inputs than one.
        EnvironmentProblem: Library, provider or device did not come up.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        import onnxruntime

        model = read_graph(path)
        options = EngineOptions(device=device, threads=threads)
        where = place(options)
        precision = precision_of(model, path.parent)
        self._session: Any = open_session(path, where, options, precision)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            named = ", ".join(port.name for port in inputs)
            raise ArtefactError(
                f"{path} must have one image input and has {len(inputs)} ({named}): export it with the image alone"
            )
        self._input = inputs[0].name
        self._outputs = [port.name for port in self._session.get_outputs()]
        self._capabilities = Capabilities(
            runtime=f"onnxruntime {onnxruntime.__version__}",
            provider=", ".join(where.providers),
            device="cpu",
            threads=threads,
            deterministic=where.device.type == "cpu",
            arithmetic="fused",
            precision=precision,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    def answers(self, batch: Tensor) -> Mapping[str, Tensor]:
        """One forward pass: outputs by name, in the graph's order.

        Raises:
            EngineDefect: The session failed.
            UsageError: The engine is closed.
        """
        if self._session is None:
            raise UsageError("this engine is closed")
        try:
            found = self._session.run(self._outputs, {self._input: batch.numpy()})
        except Exception as error:  # the binding raises a class of its own for each status code
            raise EngineDefect(
                "crash", f"ONNX Runtime failed on an input of {tuple(batch.shape)} {batch.dtype}: {first_line(error)}"
            ) from error
        return {name: torch.from_numpy(answer) for name, answer in zip(self._outputs, found, strict=True)}

    def close(self) -> None:
        """Lets go of the session."""
        self._session = None


class TorchVisionEngine:
    """A vision network of our own, in evaluation mode with frozen parameters.

    Args:
        network: Moved to the device in place.
        device: Torch device string.

    Raises:
        EnvironmentProblem: The device is not there.
    """

    def __init__(self, network: VisionNetwork, device: str = "cpu") -> None:
        where = usable_device(device)
        self.network = network.to(where).eval().requires_grad_(False)
        self._capabilities = Capabilities(
            runtime=f"torch {torch.__version__}",
            provider=where.type,
            device=str(where),
            threads=torch.get_num_threads() if where.type == "cpu" else None,
            deterministic=where.type == "cpu",
            differentiable=True,
            arithmetic="literal",
            precision="fp32",
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the engine declares of itself."""
        return self._capabilities

    def answers(self, batch: Tensor) -> Mapping[str, Tensor]:
        """One forward pass."""
        return {"answer": self.network(batch)}

    def close(self) -> None:
        """Nothing to release: the network belongs to the caller."""
