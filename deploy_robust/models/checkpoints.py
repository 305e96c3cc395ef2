"""Weights files: our own safetensors, and the authors' pickled state dicts, read without running a byte of them."""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor

from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.derainer import ModelIdentity
from deploy_robust.models.registry import MODELS
from deploy_robust.models.weights_file import (
    SUFFIX,
    build_recorded,
    load_strictly,
    read_weights,
    require_file,
    weights_sha256,
    write_weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.models.derainer import Derainer

FORMAT = "deploy-robust weights 1"
PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar")

_WRAPPERS = ("state_dict", "net", "model", "params")
_SHIPPED = Path(__file__).with_name("weights")


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What is known of a set of weights.

    Attributes:
        identity: The network that they belong to.
        weights_sha256: Hash of the weights themselves (`weights_sha256`), whatever file holds them.
        record: How they were trained, as the trainer wrote it; empty for weights of others.
        origin: Where they came from: ``shipped NAME`` or the path as given.
        official: Whether they came from the authors' checkpoint through a key map.
    """

    identity: ModelIdentity
    weights_sha256: str
    record: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    official: bool = False


def save_checkpoint(path: Path, model: Derainer, record: Mapping[str, Any]) -> CheckpointInfo:
    """Writes weights and metadata as one safetensors file; a reader sees the old file or the whole new one.

    Args:
        path: Ends in ``.safetensors``.
        model: Built by the registry.
        record: How the weights were trained; plain data.

    Raises:
        UsageError: The path has another suffix, or the model was not built by the registry.
        InputError: The file cannot be written.
    """
    if model.identity is None:
        raise UsageError(
            "this model was not built by the registry, so nobody could load its weights: use MODELS.create"
        )
    metadata = {
        "format": FORMAT,
        "model": model.identity.name,
        "preset": model.identity.preset,
        "arguments": dict(model.identity.arguments),
        "record": dict(record),
    }
    digest = write_weights(path, model.state_dict(), metadata)
    return CheckpointInfo(model.identity, digest, dict(record), origin=str(path))


def load_checkpoint(path: Path) -> tuple[Derainer, CheckpointInfo]:
    """Reads a file that `save_checkpoint` wrote.

    Returns:
        The model in evaluation mode on the CPU, and what the file says of it.

    Raises:
        CheckpointError: The file is missing, damaged, of another kind, or its weights do not fit.
    """
    record, state = read_weights(path, FORMAT)
    identity = ModelIdentity(record.model, record.preset, record.arguments)
    model = build_recorded(record, MODELS.create, path)
    load_strictly(model, state, path, str(model.identity))
    return model.eval(), CheckpointInfo(identity, record.weights_sha256, record.record, origin=str(path))


def load_official(name: str, preset: str, path: Path) -> tuple[Derainer, CheckpointInfo]:
    """Reads a checkpoint of the network's authors (``.pth``): a state dict, bare or wrapped.

    No code in the file is run (``weights_only=True``). A ``module.`` prefix is dropped, keys go through the network's
    map, and every key and shape must then fit.

    Returns:
        The model in evaluation mode on the CPU, and what is known of it.

    Raises:
        CheckpointError: The file is missing, damaged or no plain state dict, or its weights do not fit.
        UsageError: The network or preset is unknown.
    """
    spec = MODELS.spec(name)
    model = MODELS.create(name, preset)
    state = spec.from_official(_read_pickle(path))
    load_strictly(model, state, path, str(model.identity))
    info = CheckpointInfo(model.identity, weights_sha256(model.state_dict()), origin=str(path), official=True)
    return model.eval(), info


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(file.stem for file in _SHIPPED.glob(f"*{SUFFIX}"))


def load_any(
    what: str | Path, *, name: str | None = None, preset: str | None = None
) -> tuple[Derainer, CheckpointInfo]:
    """Reads shipped weights by name, a file of ours, or a checkpoint of a network's authors.

    Args:
        what: A name from `shipped`, a ``.safetensors`` file, or a ``.pth`` file.
        name: Network in the registry; needed for a ``.pth`` file, checked against any other.
        preset: Its preset, for a ``.pth`` file only; None takes the first that published checkpoints fit.

    Raises:
        CheckpointError: The file cannot be used.
        UsageError: `what` is neither a file nor a shipped name, or options contradict each other.
    """
    path = Path(what)
    if path.suffix in PICKLE_SUFFIXES:
        if name is None:
            raise UsageError(f"{path} does not say which network it belongs to: name it (--model NAME)")
        spec = MODELS.spec(name)
        return load_official(name, preset or next(iter(spec.official_presets or spec.presets)), path)
    if str(what) in shipped():
        model, info = load_checkpoint(_SHIPPED / f"{what}{SUFFIX}")
        info = CheckpointInfo(info.identity, info.weights_sha256, info.record, origin=f"shipped {what}")
    elif path.suffix == SUFFIX or path.exists():
        model, info = load_checkpoint(path)
    else:
        raise UsageError(f"{what} is neither a file nor shipped weights (shipped: {', '.join(shipped()) or 'none'})")
    if name is not None and name != info.identity.name:
        raise UsageError(f"{what} holds weights of {info.identity.name}, not of {name}: drop --model or change it")
    return model, info


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of any ``.safetensors`` file or plain state dict, for a network that the zoo does not know.

    Raises:
        CheckpointError: The file is missing, damaged, or holds more than tensors.
    """
    if path.suffix != SUFFIX:
        return _read_pickle(path)
    require_file(path)
    try:
        state: dict[str, Tensor] = load_safetensors(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    return state


def _read_pickle(path: Path) -> dict[str, Tensor]:
    require_file(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of {damaged} does not hold: it is damaged")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the file is a stranger's: whatever it provokes, it is not usable
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path} is not a plain state dict and was not run ({reason[:160]}): save only tensors"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds no state dict (got {type(content).__name__}): save model.state_dict()")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} holds more than tensors ({key!r} is a {type(value).__name__}): save model.state_dict()"
            )
    return {key.removeprefix("module."): value for key, value in content.items()}
