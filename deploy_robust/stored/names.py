"""File names of a set: deterministic, safe in any shell, and no two the same."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

CLEAN_MARK = "clean"

_LONGEST = 100
"""Characters of one part of a name; file systems allow 255 bytes for all of it."""


def input_name(pair: str, attack: str | None = None, level: float = 0.0) -> str:
    """``PAIR+ATTACK+LEVEL.png``, or ``PAIR+clean.png``; a plus stands in no part of it, since parts are quoted."""
    parts = [quoted(pair), CLEAN_MARK] if attack is None else [quoted(pair), quoted(attack), f"{level:g}"]
    return "+".join(parts) + ".png"


def quoted(text: str) -> str:
    """Letters, digits, ``_``, ``-``, ``~`` and ``.`` as they are, all else as in a URL; never hidden, never long."""
    name = quote(text, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 20]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return name
