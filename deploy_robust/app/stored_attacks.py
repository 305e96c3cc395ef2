"""The attacks of a stored set: whether they are those of a policy, and what a report has to say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy_robust.app.terms import adaptive
from deploy_robust.errors import PolicyError
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.quantities import SOURCE
from deploy_robust.stored.attack import StoredAttack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.app.roster import Roster
    from deploy_robust.attacks.attack import Attack
    from deploy_robust.stored.adversarial_set import AdversarialSet


def require_held(stored: AdversarialSet, attacks: Mapping[str, Attack], levels: Sequence[float]) -> None:
    """Refuses what a policy asks for and the set does not hold.

    Args:
        stored: The set.
        attacks: Attacks of the policy by name, with all settings.
        levels: Its epsilons in grey levels.

    Raises:
        PolicyError: An attack or an epsilon is missing, or the attack ran with other settings.
    """
    held = stored.index.attacks
    missing = [f"epsilon {level:g}/255" for level in levels if level not in stored.index.levels]
    for name, attack in attacks.items():
        if name not in held:
            missing.append(f"attack {name}")
        elif differing := _differing(attack.settings, held[name].settings):
            missing.append(f"attack {name} with {differing}")
    if missing:
        raise PolicyError(
            f"the policy asks for what the set {stored.name} does not hold: {'; '.join(missing)}: craft a set with "
            f"this policy, or ask for what it holds ({', '.join(held)} at "
            f"{', '.join(f'{level:g}' for level in stored.index.levels)}/255)"
        )


def _differing(wanted: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    keys = [key for key in {**wanted, **held} if wanted.get(key) != held.get(key)]
    return ", ".join(f"{key} = {wanted.get(key, 'none')} (it ran with {held.get(key, 'none')})" for key in keys)


def planned_from(
    stored: AdversarialSet, names: Sequence[str], roster: Roster
) -> tuple[dict[str, PlannedAttack], tuple[str, ...]]:
    """The stored attacks of a policy, each followed by its adaptive one, and which have one.

    What was observed when an attack was crafted is repeated for the network it was crafted on, and for no other.
    """
    held = stored.index.attacks
    adapted = tuple(name for name in names if adaptive(name) in held)
    planned = {}
    for name in (*names, *map(adaptive, adapted)):
        known = held[name].network is not None and roster.network(held[name].against) == held[name].network
        planned[name] = PlannedAttack(StoredAttack(name, stored), held[name].against if known else None)
    return planned, adapted


def facts_of(stored: AdversarialSet) -> dict[str, Any]:
    """What a plan says of the set that it is about."""
    index = stored.index
    return {
        "name": stored.name,
        "sha256": stored.sha256,
        "created_by": index.created_by,
        "seed": index.seed,
        "levels": list(index.levels),
        "attacks": list(index.attacks),
        "source": index.source["name"],
        "source_sha256": index.source["weights_sha256"],
        "engine": None if index.engine is None else index.engine["file"],
        "engine_sha256": None if index.engine is None else index.engine["sha256"],
        "images": len(index.pairs) + len(index.cases),
        "origin": dict(index.origin),
    }


def notes_on(stored: AdversarialSet, planned: Mapping[str, PlannedAttack], roster: Roster) -> Iterator[str]:
    """What the reader of a report has to know about the set, one line each."""
    index = stored.index
    yield (
        f"no attack was crafted here: images are those of the set {stored.name} ({stored.sha256[:16]}), crafted with "
        f"seed {index.seed} on {index.source['name']} by {index.created_by}; a set holds 8-bit images, so there is no "
        "float delivery"
    )
    if roster.source is not None and roster.network(SOURCE) != index.source["weights_sha256"]:
        yield (
            f"the set was crafted on {index.source['name']}, and the source here is {roster.source.facts['name']}, "
            "with other weights: an attack crafted on it could be stronger"
        )
    strangers = [
        name
        for name, each in planned.items()
        if index.attacks[name].against not in (None, SOURCE) and each.against is None
    ]
    if strangers:
        yield f"{', '.join(strangers)}: crafted on another engine or graph than this one"
    if roster.adaptable and not any(name == adaptive(record.policy_name) for name, record in index.attacks.items()):
        yield "the set holds no attack crafted on this engine's own graph: `attack --engine` adds it"
    if unused := [name for name in index.attacks if name not in planned]:
        yield f"the set also holds {', '.join(unused)}, which the policy does not ask for"


def notes_on_outputs(outputs: Mapping[str, Any], *, parity: bool) -> Iterator[str]:
    """The same about recorded outputs."""
    said = f'; recorded by "{outputs["target"]}"' if outputs["target"] else ""
    yield (
        f"no engine ran here: the {outputs['count']} outputs were recorded elsewhere and read from {outputs['folder']} "
        f"({outputs['sha256'][:16]}){said}"
    )
    if outputs["form"] == "8bit":
        yield (
            "recorded outputs hold 8 bits: values outside [0, 1] are lost, rounding alone makes 58.9 dB, and parity is "
            "known within rounding only"
        )
    if not parity:
        yield "parity was not measured: name the engine's source with --source, or its artefact with --engine"
    if outputs["contradictions"]:
        yield (
            f"{outputs['contradictions']} inputs are equal in every pixel and were answered differently: the target is "
            "not deterministic, and the first answer counts"
        )
