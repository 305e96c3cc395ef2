"""The attacks by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from deploy_robust.attacks.local_credit import local_credit, spsa
from deploy_robust.attacks.noise import random_corners, uniform_noise
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.errors import UsageError
from deploy_robust.registry import Registry, instead_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.attacks.attack import Attack

ATTACKS: Registry[Callable[..., Attack]] = Registry("attack")
"""Factories whose keyword arguments are the attack's settings; a new attack is one file and one line here."""

ATTACKS.add("pgd-lmse", pgd_lmse)
ATTACKS.add("uniform", uniform_noise)
ATTACKS.add("corners", random_corners)
ATTACKS.add("local-credit", local_credit)
ATTACKS.add("spsa", spsa)


def make_attack(name: str, **settings: str | int | float | bool) -> Attack:
    """Builds an attack from its name and settings, as a policy or a command line gives them.

    Raises:
        UsageError: No attack has that name, or it has no such setting, or a value is out of range.
    """
    factory = ATTACKS[name]
    known = inspect.signature(factory).parameters
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"attack {name!r} has no setting {key!r}: {instead_of(key, known)}")
        if not _fits(value, known[key].default):
            kind = _KIND_NAME[type(known[key].default)]
            raise UsageError(f"setting {key} of attack {name!r} must be a {kind} (got {value!r})")
    return factory(**settings)


_KIND_NAME = {str: "string", int: "whole number", float: "number", bool: "boolean"}


def _fits(value: object, default: object) -> bool:
    """Whether a value from a policy is of the kind of the setting's default; a whole number is a number too."""
    return type(value) is type(default) or (isinstance(default, float) and type(value) is int)
