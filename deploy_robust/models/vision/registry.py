"""The vision networks by name, and their weights: shipped ones, or files of `save_vision`.

A new network is one file beside this one and one `VISION.add(...)` below.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import UsageError
from deploy_robust.models.checkpoints import CheckpointInfo
from deploy_robust.models.derainer import ModelIdentity
from deploy_robust.models.vision.detector import Detector
from deploy_robust.models.vision.segmenter import Segmenter
from deploy_robust.models.weights_file import SUFFIX, build_recorded, load_strictly, read_weights, write_weights
from deploy_robust.registry import Registry, instead_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy_robust.models.vision.network import VisionNetwork

FORMAT = "deploy-robust vision weights 1"

SCENE_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "car",
)
"""What the embedded scenes show, in the order of their indices."""

_SHIPPED = Path(__file__).parents[1] / "weights" / "vision"


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """One vision network.

    Attributes:
        factory: Makes it with fresh weights.
        presets: Constructor arguments by preset; the first is the default.
    """

    factory: Callable[..., VisionNetwork]
    presets: Mapping[str, Mapping[str, Any]]


VISION: Registry[VisionSpec] = Registry("vision network")
"""The vision networks that deploy-robust ships."""

VISION.add(
    "segmenter",
    VisionSpec(
        Segmenter,
        {
            "small": {"classes": SCENE_CLASSES, "widths": (16, 32, 48, 64), "top": 24},
            "tiny": {"classes": SCENE_CLASSES, "widths": (4, 4, 4, 4), "top": 4},
        },
    ),
)
VISION.add(
    "detector",
    VisionSpec(
        Detector,
        {
            "small": {"classes": ("person",), "widths": (16, 32, 48, 64), "top": 32},
            "tiny": {"classes": ("person",), "widths": (4, 4, 4, 4), "top": 4},
        },
    ),
)


def create_vision(name: str, preset: str | None = None, **overrides: Any) -> VisionNetwork:
    """Builds a network with fresh weights, in training mode.

    Args:
        name: Name in `VISION`.
        preset: Its preset; None takes the first.
        **overrides: Constructor arguments that replace those of the preset.

    Raises:
        UsageError: Name, preset or an override is unknown, or a value is out of range.
    """
    spec = VISION[name]
    preset = next(iter(spec.presets)) if preset is None else preset
    if preset not in spec.presets:
        raise UsageError(f"{name} has no preset {preset!r}: {instead_of(preset, spec.presets)}")
    accepted = inspect.signature(spec.factory).parameters
    if unknown := [key for key in overrides if key not in accepted]:
        raise UsageError(f"{name} has no argument {unknown[0]!r}: {instead_of(unknown[0], accepted)}")
    arguments = {**spec.presets[preset], **overrides}
    network = spec.factory(**arguments)
    network.identity = ModelIdentity(name, preset, arguments)
    return network


def save_vision(path: Path, network: VisionNetwork, record: Mapping[str, Any]) -> CheckpointInfo:
    """Writes weights and metadata as one safetensors file.

    Args:
        path: Ends in ``.safetensors``.
        network: Built by `create_vision`.
        record: How the weights were trained; plain data.

    Raises:
        UsageError: The path has another suffix.
        InputError: The file cannot be written.
    """
    identity = network.identity
    metadata = {
        "format": FORMAT,
        "model": identity.name,
        "preset": identity.preset,
        "arguments": dict(identity.arguments),
        "record": dict(record),
    }
    digest = write_weights(path, network.state_dict(), metadata)
    return CheckpointInfo(identity, digest, dict(record), origin=str(path))


def shipped_vision() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(file.stem for file in _SHIPPED.glob(f"*{SUFFIX}"))


def load_vision(what: str | Path) -> tuple[VisionNetwork, CheckpointInfo]:
    """Reads shipped weights by name, or a file that `save_vision` wrote.

    Returns:
        The network in evaluation mode on the CPU, and what is known of it.

    Raises:
        CheckpointError: The file is missing, damaged, of another kind, or its weights do not fit.
        UsageError: `what` is neither a shipped name nor a file.
    """
    own = str(what) in shipped_vision()
    if not own and Path(what).suffix != SUFFIX:
        raise UsageError(f"no vision weights are named {str(what)!r}: {instead_of(str(what), shipped_vision())}")
    path = _SHIPPED / f"{what}{SUFFIX}" if own else Path(what)
    record, state = read_weights(path, FORMAT)
    identity = ModelIdentity(record.model, record.preset, record.arguments)
    network = build_recorded(record, create_vision, path)
    load_strictly(network, state, path, str(identity))
    origin = f"shipped {what}" if own else str(what)
    return network.eval(), CheckpointInfo(identity, record.weights_sha256, record.record, origin=origin)
