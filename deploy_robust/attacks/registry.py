"""The attacks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.attacks.composed import compose
from deploy_robust.attacks.divergence import divergence, divergence_queries
from deploy_robust.attacks.local_credit import local_credit, spsa
from deploy_robust.attacks.noise import random_corners, uniform_noise
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.settings import check_settings
from deploy_robust.attacks.square import square
from deploy_robust.attacks.stripes import stripes
from deploy_robust.attacks.suite import suite, transfer
from deploy_robust.attacks.tiled import tiled
from deploy_robust.errors import UsageError
from deploy_robust.registry import Registry

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
ATTACKS.add("square", square)
ATTACKS.add("stripes", stripes)
ATTACKS.add("tiled", tiled)
ATTACKS.add("transfer", transfer)
ATTACKS.add("suite", suite)
ATTACKS.add("divergence", divergence)
ATTACKS.add("divergence-queries", divergence_queries)


def make_attack(name: str, **settings: str | int | float | bool) -> Attack:
    """Builds an attack from its name and settings, as a policy or a command line gives them.

    With the setting ``algorithm`` the name is free and the attack is composed of parts; see `compose`.

    Raises:
        UsageError: No attack has that name, or it has no such setting, or a value is out of range.
    """
    if "algorithm" in settings:
        if name in ATTACKS:
            raise UsageError(f"attack {name!r} comes with its algorithm: give one that you compose another name")
        return compose(name, settings)
    factory = ATTACKS[name]
    check_settings(name, settings, factory)
    return factory(**settings)
