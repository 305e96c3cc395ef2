"""Settings as a policy or a command line gives them, held against what a factory takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = str | int | float | bool

_KIND_NAME = {str: "string", int: "whole number", float: "number", bool: "boolean"}


def check_settings(attack: str, settings: Mapping[str, Value], *factories: Callable[..., Any]) -> None:
    """Refuses settings that none of the factories takes, or that are of another kind than their default.

    Raises:
        UsageError: Names the attack, the setting and what would be right.
    """
    known = {name: p for factory in factories for name, p in inspect.signature(factory).parameters.items()}
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"attack {attack!r} has no setting {key!r}: {instead_of(key, known)}")
        if not _fits(value, known[key].default):
            kind = _KIND_NAME[type(known[key].default)]
            raise UsageError(f"setting {key} of attack {attack!r} must be a {kind} (got {value!r})")


def taken_by(factory: Callable[..., Any], settings: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the settings that the factory takes."""
    known = inspect.signature(factory).parameters
    return {key: value for key, value in settings.items() if key in known}


def _fits(value: object, default: object) -> bool:
    """Whether a value is of the kind of the setting's default; a whole number is a number too."""
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)
