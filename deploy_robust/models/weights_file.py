"""Weights with metadata as one safetensors file: written whole, read without running a byte of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from deploy_robust.artefact.files import write_bytes
from deploy_robust.boundary import MalformedError, parse_json, shown, validated
from deploy_robust.errors import CheckpointError, UsageError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

M = TypeVar("M", bound="nn.Module")
SUFFIX = ".safetensors"

MOST_PARAMETERS = 500_000_000
"""A file that asks for a network of more parameters (2 GB in float32) is refused before anything is built."""

_MOST_TENSORS = 50_000

# One JSON string under one key: safetensors writes its metadata in random order, and one key has only one order.
_METADATA_KEY = "deploy_robust"


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """What a weights file says of itself.

    Attributes:
        format: Which of our formats it is.
        model: Name of the network in its registry.
        preset: Its preset.
        arguments: All arguments of its constructor.
        record: How it was trained; plain data.
        weights_sha256: Hash of the weights (`weights_sha256`).
    """

    format: str
    model: str
    preset: str
    arguments: Mapping[str, Any]
    record: Mapping[str, Any]
    weights_sha256: str


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and little-endian values in order of name: the same for the same weights."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1e".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Writes weights and metadata as one file; a reader sees the old file or the whole new one.

    Args:
        path: Ends in ``.safetensors``.
        state: A state dict.
        metadata: Plain data; the hash of the weights is added as ``weights_sha256``.

    Returns:
        That hash.

    Raises:
        UsageError: The path has another suffix.
        InputError: The file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"weights are written as {SUFFIX} (got {path.name!r}): change the suffix")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    digest = weights_sha256(tensors)
    text = json.dumps({**metadata, "weights_sha256": digest}, sort_keys=True)
    write_bytes(path, safetensors_bytes(tensors, metadata={_METADATA_KEY: text}))
    return digest


def read_weights(path: Path, form: str) -> tuple[CheckpointRecord, dict[str, Tensor]]:
    """Metadata and weights of a file that `write_weights` wrote.

    Args:
        path: The file.
        form: What its metadata must say under ``format``.

    Raises:
        CheckpointError: The file is missing, damaged or of another kind, or its weights are not those it states.
    """
    require_file(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    if text is None:
        raise CheckpointError(f"{path} has no deploy-robust metadata: save it with deploy_robust.models.checkpoints")
    try:
        data = parse_json(text)
        if isinstance(data, dict) and data.get("format") != form:
            raise CheckpointError(f"{path} is of another format than {form!r} (got {shown(data.get('format'))})")
        metadata = validated(CheckpointRecord, data)
    except MalformedError as error:
        raise CheckpointError(f"{path}: its metadata {error}: copy it again") from error
    if weights_sha256(state) != metadata.weights_sha256:
        raise CheckpointError(
            f"{path}: the weights do not have the hash that the file states: it is damaged, copy it again"
        )
    return metadata, state


def build_recorded(record: CheckpointRecord, create: Callable[..., M], path: Path) -> M:
    """The network that a weights file asks for, with fresh weights.

    It is built without memory first: what a file asks for may be anything.

    Args:
        record: What the file says.
        create: Makes a network of a name, a preset and arguments.
        path: For messages.

    Raises:
        CheckpointError: Nobody can build it, or it has more parameters than `MOST_PARAMETERS`.
    """
    counts = [0, 0]

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        counts[0] += 0 if parameter is None else parameter.numel()
        counts[1] += 1
        if counts[0] > MOST_PARAMETERS or counts[1] > _MOST_TENSORS:
            raise UsageError(f"it has more than {MOST_PARAMETERS:,} parameters or {_MOST_TENSORS:,} tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            create(record.model, record.preset, **record.arguments)
    except Exception as error:  # the arguments are a stranger's: whatever they provoke, nobody can build it
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}, {first_line(error)}"
        raise CheckpointError(
            f"{path} holds weights of a network that this version cannot build: {reason}; copy the file again"
        ) from error
    finally:
        hook.remove()
    return create(record.model, record.preset, **record.arguments)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Copies weights into a module; every key and shape must fit and every value be finite.

    Raises:
        CheckpointError: They do not; the first keys are named.
    """
    own = module.state_dict()
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
        raise CheckpointError(f"{path} does not fit {what}: {found}; is it another network or preset?")
    module.load_state_dict(dict(state))


def require_file(path: Path) -> None:
    """Refuses what is no file.

    Raises:
        CheckpointError: It is none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: check the path of the weights")


def _some(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{what}: {', '.join(keys[:3])}{more}"
