"""Getting hold of TensorRT: a missing module, a missing library and a factory without an answer are three errors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable

OLDEST, FIRST_UNKNOWN = (10, 13), (12,)
"""Versions whose common subset is used here: from the first, below the second."""

INSTALL = (
    "install TensorRT 10.13 or newer with the CUDA major version of torch (docs/tensorrt.md), "
    "or check the ONNX graph itself with ONNX Runtime"
)
"""The way out where TensorRT is not there."""


def load() -> Any:
    """The module ``tensorrt``.

    Raises:
        EnvironmentProblem: It is not installed, does not find its library, or is of a version not known here.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(f"TensorRT is not installed ({error}): {INSTALL}") from error
    except (ImportError, OSError) as error:
        raise EnvironmentProblem(
            f"TensorRT's Python module is there and its library does not load ({error}): install the tensorrt "
            "libraries of the same version (pip install tensorrt), or put their folder on LD_LIBRARY_PATH"
        ) from error
    if not hasattr(trt, "__version__"):  # any folder of that name imports as an empty package
        where = ", ".join(getattr(trt, "__path__", [])) or "unknown"
        raise EnvironmentProblem(f"what imports as tensorrt is a folder without TensorRT ({where}): {INSTALL}")
    if not OLDEST <= version_of(trt) < FIRST_UNKNOWN:
        raise EnvironmentProblem(
            f"TensorRT {trt.__version__} is installed and 10.13 to 11.x are supported: install one of those"
        )
    return trt


def version_of(trt: Any) -> tuple[int, ...]:
    """The version of the module as numbers, as many as there are at its start."""
    numbers: list[int] = []
    for part in str(trt.__version__).split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def created(what: str, factory: Callable[..., Any], *arguments: Any) -> Any:
    """What a constructor of TensorRT makes: its bindings raise TypeError where the library gives a null pointer.

    Args:
        what: Name for the message, like ``Runtime``.
        factory: The constructor.
        arguments: What it is given.

    Raises:
        EnvironmentProblem: The library made nothing; with TensorRT that mostly means that there is no driver.
    """
    try:
        return factory(*arguments)
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        raise EnvironmentProblem(
            f"TensorRT's library loads and makes no {what}: mostly the NVIDIA driver is missing or older than the "
            "CUDA version that TensorRT was built for; look at nvidia-smi, and update the driver or install an "
            "older TensorRT"
        ) from error
