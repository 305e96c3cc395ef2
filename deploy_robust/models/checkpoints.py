"""Weights files: our own safetensors, and the authors' pickled state dicts, read without running a byte of them."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from deploy_robust.artefact.files import write_bytes
from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.derainer import ModelIdentity
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.models.derainer import Derainer

FORMAT = "deploy-robust weights 1"
SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".tar")

# One JSON string under one key: safetensors writes its metadata in random order, and one key has only one order.
_METADATA_KEY = "deploy_robust"
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


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and little-endian values in order of name: the same for the same weights."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
    if path.suffix != SUFFIX:
        raise UsageError(f"weights are written as {SUFFIX} (got {path.name!r}): change the suffix")
    if model.identity is None:
        raise UsageError(
            "this model was not built by the registry, so nobody could load its weights: use MODELS.create"
        )
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    info = CheckpointInfo(model.identity, weights_sha256(state), dict(record), origin=str(path))
    metadata = {
        "format": FORMAT,
        "model": model.identity.name,
        "preset": model.identity.preset,
        "arguments": dict(model.identity.arguments),
        "weights_sha256": info.weights_sha256,
        "record": info.record,
    }
    text = json.dumps(metadata, sort_keys=True)
    write_bytes(path, safetensors_bytes(state, metadata={_METADATA_KEY: text}))
    return info


def load_checkpoint(path: Path) -> tuple[Derainer, CheckpointInfo]:
    """Reads a file that `save_checkpoint` wrote.

    Returns:
        The model in evaluation mode on the CPU, and what the file says of it.

    Raises:
        CheckpointError: The file is missing, damaged, of another kind, or its weights do not fit.
    """
    metadata, state = _read_safetensors(path)
    identity = ModelIdentity(metadata["model"], metadata["preset"], metadata["arguments"])
    found = weights_sha256(state)
    if found != metadata["weights_sha256"]:
        raise CheckpointError(
            f"{path}: the weights do not have the hash that the file states: it is damaged, copy it again"
        )
    try:
        model = MODELS.create(identity.name, identity.preset, **identity.arguments)
    except UsageError as error:
        raise CheckpointError(f"{path} holds weights of a model that this version cannot build: {error}") from error
    _load_strictly(model, state, path)
    return model.eval(), CheckpointInfo(identity, found, metadata["record"], origin=str(path))


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
    _load_strictly(model, state, path)
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
    _require_file(path)
    try:
        state: dict[str, Tensor] = load_safetensors(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    return state


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    _require_file(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    if text is None:
        raise CheckpointError(f"{path} has no deploy-robust metadata: save it with deploy_robust.models.checkpoints")
    try:
        metadata: dict[str, Any] = json.loads(text)
        missing = {"format", "model", "preset", "arguments", "weights_sha256", "record"} - set(metadata)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata is not JSON ({error})") from error
    if missing or metadata["format"] != FORMAT:
        raise CheckpointError(f"{path} is of another format than {FORMAT!r} (got {metadata.get('format')!r})")
    return metadata, state


def _read_pickle(path: Path) -> dict[str, Tensor]:
    _require_file(path)
    try:
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


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: check the path of the weights")


def _load_strictly(model: Derainer, state: Mapping[str, Tensor], path: Path) -> None:
    """Copies weights into a model; every key and shape must fit and every value be finite."""
    own = model.state_dict()
    problems = [
        _some("missing", [key for key in own if key not in state]),
        _some("unexpected", [key for key in state if key not in own]),
        _some(
            "of another shape",
            [
                f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
                for key in own
                if key in state and own[key].shape != state[key].shape
            ],
        ),
        _some("not finite", [key for key, value in state.items() if not torch.isfinite(value).all()]),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{path} does not fit {model.identity}: {found}; is it another network or preset?")
    model.load_state_dict(dict(state))


def _some(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{what}: {', '.join(keys[:3])}{more}"
