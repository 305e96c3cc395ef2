"""Every way to run one network on a device, each opened, or with the reason why it cannot be."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.restorer import Restorer

    Way = tuple[str, str, Restorer | str]  # label, type of the products, and the engine or why there is none


def network_of_the_zoo() -> nn.Module:
    from deploy_robust.models.checkpoints import load_any

    network, _ = load_any("prenet-small")
    return network.for_export().eval().requires_grad_(False)


class Half(nn.Module):
    """The network in float16, taking and giving float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()


class Captured(nn.Module):
    """The network as a CUDA graph for each shape; an answer is valid until the next call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._graphs: dict[torch.Size, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape not in self._graphs:
            from gpu_measure import captured

            held = x.clone()
            self._graphs[x.shape] = held, captured(lambda: self.network(held), x.device)
        held, replay = self._graphs[x.shape]
        held.copy_(x)
        return replay()


def paths(network: nn.Module, device: torch.device, folder: Path) -> Iterator[Way]:
    from deploy_robust.engines.torch_module import TorchEngine
    from deploy_robust.restorer import Restorer

    where = str(device)
    yield "torch fp32", "fp32", Restorer(TorchEngine(network, where))
    yield "torch fp16", "fp16", Restorer(TorchEngine(Half(copy.deepcopy(network)), where))
    if device.type == "cuda":
        yield "torch fp32, captured graph", "fp32", Restorer(TorchEngine(Captured(network), where))
    try:
        graphs = export(network, folder)
    except Exception as error:  # onnx or onnxscript may be missing
        for label in ("onnxruntime cuda", "onnxruntime tensorrt", "tensorrt"):
            yield label, "fp32", f"there is no graph to run: {reason(error)}"
        return
    for provider in ("cuda", "tensorrt") if device.type == "cuda" else ("cpu",):
        for precision, graph in graphs.items():
            yield opened("onnxruntime", f"onnxruntime {provider} {precision}", graph, where, provider)
    if device.type == "cuda":
        yield from plans(network, graphs, folder, where)


def export(network: nn.Module, folder: Path) -> dict[str, Path]:
    """The ONNX graphs, by precision."""
    from deploy_robust.artefact.exporter import Calibration, ExportRequest
    from deploy_robust.artefact.io_description import SizeRule
    from deploy_robust.exporters import int8_ort, onnx_fp32

    made = {"fp32": folder / "network.onnx", "int8": folder / "network-int8.onnx"}
    on_cpu = copy.deepcopy(network).cpu()
    onnx_fp32.EXPORTER.export(ExportRequest(made["fp32"], on_cpu, SizeRule(), lambda _: ()))
    int8_ort.EXPORTER.export(
        ExportRequest(
            made["int8"],
            on_cpu,
            SizeRule(),
            lambda _: (),
            graph=made["fp32"],
            calibration=Calibration(calibration_images),
        )
    )
    return made


def calibration_images() -> Iterator[Any]:
    from gpu import images

    for image in images(4, 96, 96):
        yield image.permute(1, 2, 0).mul(255).round().byte().numpy()


def plans(network: nn.Module, graphs: dict[str, Path], folder: Path, device: str) -> Iterator[Way]:
    """TensorRT's own runner on a plan that is built here."""
    from deploy_robust.artefact.exporter import ExportRequest
    from deploy_robust.artefact.io_description import SizeRule

    label = "tensorrt fp32"
    try:
        exporter = import_module("deploy_robust.exporters.tensorrt").EXPORTER
        path = folder / "network.plan"
        exporter.export(ExportRequest(path, network, SizeRule(), lambda _: (), graph=graphs["fp32"]))
    except Exception as error:
        yield label, "fp32", reason(error)
        return
    yield opened("tensorrt", label, path, device, None)


def opened(kind: str, label: str, path: Path, device: str, provider: str | None) -> Way:
    """An engine of ours; imported by its module, so that a checkout that is not installed will do."""
    from deploy_robust.artefact.hashing import sha256_of
    from deploy_robust.engine import EngineOptions
    from deploy_robust.restorer import Restorer

    options = EngineOptions(device=device, provider=provider, vouched=sha256_of(path))
    try:
        runtime = import_module(f"deploy_robust.engines.{kind}").KIND
        return label, "fp32", Restorer(*runtime.open(path, options))
    except Exception as error:
        return label, "fp32", reason(error)


def described(restorer: Restorer) -> dict[str, Any]:
    """What really runs, as the engine says."""
    found = restorer.capabilities
    return {
        "runtime": found.runtime,
        "provider": found.provider,
        "arithmetic": found.arithmetic,
        "precision": found.precision,
        **dict(found.tags),
    }


def reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no message'])[0][:300]}"
