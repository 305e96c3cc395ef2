"""Downstream networks by what a user types, opened with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import InputError, UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.data.pairs import Labels, PairSource
    from deploy_robust.downstream.viewer import Viewer
    from deploy_robust.gate.downstream import Downstream

DESCRIPTIONS = (".toml", ".json")
"""Suffixes of descriptions, as they are looked for beside a model."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The downstream networks of a run.

    Attributes:
        downstream: What the executor asks.
        facts: By task, what is known of each network, as plain data for the run's plan.
    """

    downstream: Downstream
    facts: dict[str, dict[str, Any]]


def open_downstream(what: Sequence[str], pairs: PairSource, device: str, threads: int | None) -> Watching:
    """Opens downstream networks.

    Args:
        what: Each a shipped name, a weights file of our own, a description, or a model with its description beside it.
        pairs: The images, whose labels must say what there is to see.
        device: Torch device string.
        threads: Intra-operator threads; None leaves them.

    Raises:
        UsageError: A name is unknown, or the images have no labels.
        InputError: A description is missing or malformed.
        CheckpointError: Weights cannot be used.
        ArtefactError: A model cannot be used.
    """
    from deploy_robust.gate.downstream import Downstream

    if not what:
        return Watching(Downstream(), {})
    labels = pairs[0].labels
    viewers: list[Viewer] = []
    facts: dict[str, dict[str, Any]] = {}
    for name in what:
        viewer, known = _open(name, device, threads)
        task = viewer.adapter.task
        _require_labels(task, labels, pairs.name, viewer)
        facts[task] = {
            **known,
            "classes": list(labels.class_names),
            "adapter": viewer.adapter.to_dict(),
            "capabilities": viewer.engine.capabilities.to_dict(),
        }
        viewers.append(viewer)
    return Watching(Downstream(viewers), facts)


def _open(what: str, device: str, threads: int | None) -> tuple[Viewer, dict[str, Any]]:
    from deploy_robust.artefact.hashing import identity_of
    from deploy_robust.downstream.adapter import read_adapter
    from deploy_robust.downstream.viewer import Viewer
    from deploy_robust.engines.vision import OnnxVisionEngine
    from deploy_robust.models.vision.registry import shipped_vision

    path = Path(what)
    if what in shipped_vision() or path.suffix == ".safetensors":
        return _ours(what, device)
    description = path if path.suffix.lower() in DESCRIPTIONS else _beside(path)
    adapter, model = read_adapter(description)
    if not model.is_file():
        raise InputError(f"{description} names the model {model}, and it is not there: correct the key model")
    viewer = Viewer(OnnxVisionEngine(model, device, threads), adapter)
    return viewer, {
        "name": model.stem,
        "file": model.name,
        "sha256": identity_of(model),
        "description": description.name,
    }


def _ours(what: str, device: str) -> tuple[Viewer, dict[str, Any]]:
    """A network of our own, which needs no description."""
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.downstream.adapter import Adapter, Reading
    from deploy_robust.downstream.viewer import Viewer
    from deploy_robust.engines.vision import TorchVisionEngine
    from deploy_robust.models.vision.registry import load_vision

    network, info = load_vision(what)
    reading = Reading("scores" if network.task == "segmentation" else "centres")
    adapter = Adapter(network.task, network.classes, IODescription(size=network.size_rule), reading)
    known = {"name": Path(what).stem, "file": Path(what).name, "sha256": info.weights_sha256, "description": ""}
    return Viewer(TorchVisionEngine(network, device), adapter), known


def _beside(model: Path) -> Path:
    from deploy_robust.models.vision.registry import shipped_vision

    for suffix in DESCRIPTIONS:
        if (found := model.with_suffix(suffix)).is_file():
            return found
    if not model.is_file():
        raise UsageError(
            f"--downstream {model}: neither a file nor a shipped network: {instead_of(str(model), shipped_vision())}"
        )
    raise InputError(
        f"{model} has no description beside it: write {model.with_suffix('.toml').name} (see docs/downstream.md)"
    )


def _require_labels(task: str, labels: Labels, source: str, viewer: Viewer) -> None:
    there = labels.classes is not None if task == "segmentation" else bool(labels.class_names or labels.boxes)
    if not there:
        raise UsageError(
            f"--downstream needs labelled images, and {source} has none for a {task}: "
            "use --data scenes, or a folder with --labels"
        )
    known = {*labels.class_names, *(box.label for box in labels.boxes)}
    if labels.class_names and not known & set(viewer.adapter.named):
        raise UsageError(
            f"no class of the downstream network is a label of {source} ({', '.join(labels.class_names)}): "
            "rename them in its description, in the table [map]"
        )
