"""Registering tests by betting: which units, in which order, and whether a run goes on from an earlier registration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy_robust import keyed
from deploy_robust.gate.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.policy import Policy

STREAM = "scenes"
"""The source that gives fresh independent units for ever; every other one is a finite set."""


def register(policy: Policy, pairs: PairSource, seed: int) -> Registration | None:
    """Registers what a policy wants decided by betting; None where that is nothing.

    Scenes of the embedded generator are fresh draws and count as they come. The images of any other source are a finite
    set: they count in an order drawn by the seed, and the claim is about them alone.
    """
    facts, ids = pairs.identity, pairs.ids()
    if facts.get("source") == STREAM:
        source = (
            f"fresh scenes of the embedded generator (version {facts['generator']}, split {facts['split']}, "
            f"seed {facts['seed']}, {facts['height']}x{facts['width']})"
        )
        return Registration.of(
            policy, population="stream", source=source, identity=_without_count(facts), order=ids, seed=seed
        )
    order = [ids[index] for index in keyed.generator(seed, "order of units").permutation(len(ids))]
    return Registration.of(
        policy, population="set", source=f"the set {pairs.name}", identity=facts, order=order, seed=seed
    )


def continued(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan of a run that goes on with more units; None where the two plans differ in anything else."""
    if "registration" not in stored or "registration" not in wanted or _rest(stored) != _rest(wanted):
        return None
    earlier, now = (Registration.from_dict(plan["registration"]) for plan in (stored, wanted))
    registration = now.continuing(earlier)
    return None if registration is None else {**wanted, "registration": registration.to_dict()}


def _rest(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan without its number of units."""
    pairs = {**plan["pairs"], "count": None, "identity": _without_count(plan["pairs"]["identity"])}
    return {**plan, "pairs": pairs, "registration": None}


def _without_count(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key != "count"}
