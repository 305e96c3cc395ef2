"""The state of an interrupted training: whole or not there, with the one before it as a reserve."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.artefact.files import write_bytes
from deploy_robust.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

CURRENT, PREVIOUS = "state.bin", "state.previous.bin"
DAMAGED = "state.damaged.bin"
"""Where a state goes that was passed over: under its old name it would become the reserve at the next save."""

_MAGIC = b"deploy-robust training state 1\n"
_HASH_BYTES = 32


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes a state (tensors and plain data) beside the one before it; a crash at any moment leaves a whole one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    current = folder / CURRENT
    if current.exists():
        current.replace(folder / PREVIOUS)
    write_bytes(current, _MAGIC + hashlib.sha256(payload).digest() + payload)


def read_state(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The newest whole state; a damaged one that is passed over gets another name.

    Returns:
        The state, or None where there is none yet; and a message for the user where a damaged one was passed over.

    Raises:
        RunError: There are states and all of them are damaged.
    """
    damaged: list[str] = []
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        state = _read(path)
        if state is not None and not damaged:
            return state, None
        if state is not None:
            (folder / CURRENT).replace(folder / DAMAGED)
            return state, f"{CURRENT} is truncated or damaged (now {DAMAGED}): going on from {PREVIOUS}"
        damaged.append(name)
    if damaged:
        raise RunError(f"{folder}: {' and '.join(damaged)} cannot be read: remove the folder and train anew")
    return None, None


def _read(path: Path) -> dict[str, Any] | None:
    """One state file; None where its hash does not hold."""
    content = path.read_bytes()
    start = len(_MAGIC) + _HASH_BYTES
    payload = content[start:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(payload).digest() != content[len(_MAGIC) : start]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
