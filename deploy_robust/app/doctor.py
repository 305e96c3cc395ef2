"""The use case `doctor`: what is installed, and which engines really run here, found out by running them."""

from __future__ import annotations

import os
import platform
import sqlite3
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from deploy_robust.app.registries import engine_kind, engine_names
from deploy_robust.engine import Health
from deploy_robust.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = {
    "torch": "the networks and the attacks",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime-gpu": "the ONNX Runtime engine (CPU and CUDA)",
    "onnxruntime": "the ONNX Runtime engine (CPU)",
    "lpips": "LPIPS objectives and metrics",
    "polygraphy": "the parity cross-check",
    "tensorrt": "the TensorRT engine; pip install 'deploy-robust[tensorrt]' on a machine with an NVIDIA GPU",
    "openvino": "the OpenVINO engine; pip install 'deploy-robust[openvino]'",
    "tensorboard": "train --tensorboard; pip install 'deploy-robust[tensorboard]'",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A library and what it is for.

    Attributes:
        name: Distribution name.
        version: Installed version; None where it is missing.
        purpose: What needs it.
    """

    name: str
    version: str | None
    purpose: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        machine: System facts, name to value.
        packages: Libraries.
        engines: Runtimes and providers, each tried.
        advice: Lines on what to do.
    """

    machine: dict[str, str]
    packages: tuple[Package, ...]
    engines: tuple[Health, ...]
    advice: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Looks around, and runs every engine once."""
    packages = tuple(Package(name, _version(name), purpose) for name, purpose in _PACKAGES.items())
    engines = tuple(_engines())
    return Diagnosis(_machine(), packages, engines, tuple(_advice(packages, engines)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "GPU": gpu,
        "SQLite": sqlite3.sqlite_version,
    }


def _engines() -> Iterator[Health]:
    for name in engine_names():
        try:
            kind = engine_kind(name)
        except EnvironmentProblem as error:
            yield Health(name, False, str(error), "repair or uninstall the package that offers it")
            continue
        yield from kind.health()


def _advice(packages: tuple[Package, ...], engines: tuple[Health, ...]) -> Iterator[str]:
    installed = {package.name for package in packages if package.version is not None}
    if {"onnxruntime", "onnxruntime-gpu"} <= installed:
        yield (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "uninstall both, then install the one you need"
        )
    if not {"onnxruntime", "onnxruntime-gpu"} & installed:
        yield "no ONNX Runtime is installed: pip install onnxruntime-gpu, or onnxruntime where there is no NVIDIA GPU"
    for health in engines:
        if not health.works and health.remedy:
            yield f"{health.name}: {health.remedy}"
