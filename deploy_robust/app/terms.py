"""What a verdict rests on: the same for a check that measures and for a judgement of what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import PolicyError
from deploy_robust.gate.evidence import DETECTION, SEGMENTATION
from deploy_robust.gate.judge import Terms
from deploy_robust.gate.quantities import (
    ATTACKED_CONVERSION,
    ATTACKED_FIDELITY,
    DIVERGENCE,
    INDEPENDENT_ROWS,
    REPEATABLE,
    quantity,
)
from deploy_robust.gate.table import Known

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Requirement
    from deploy_robust.gate.registration import Registration

TASKS = (SEGMENTATION, DETECTION)
"""What downstream networks do."""

CONVERSION = "conversion"
"""The parity figure that compares the engine with its fp32 source."""

FIDELITY = "fidelity"
"""The parity figure that compares the engine with the literal reading of its own graph."""

ATTACKED = {ATTACKED_CONVERSION: CONVERSION, ATTACKED_FIDELITY: FIDELITY}
"""Quantity of parity on attacked images to the parity figure that it is of."""

NO_PARITY = (
    "the engine's parity could not be measured: no source of its own was given (--source), and its graph cannot be "
    "read literally"
)


def adaptive(name: str) -> str:
    """Name of an attack of the policy where it is crafted on the literal twin instead of the source."""
    return f"{name}-adaptive"


def judged_attacks(policy: Policy, adapted: Collection[str]) -> tuple[str, ...]:
    """All attacks over which an image counts at its worst: those of the policy, each followed by its adaptive one.

    Attacks on the difference of two networks are not among them: they look for no loss.
    """
    names = [name for name in policy.attacks if name not in DIVERGENCE]
    return tuple(each for name in names for each in ((name, adaptive(name)) if name in adapted else (name,)))


def terms_of(
    policy: Policy,
    *,
    precision: str,
    references: Collection[str],
    paired: bool,
    adapted: Collection[str] = (),
    registration: Registration | None = None,
    measured: Collection[str] = (),
    access: Mapping[str, str] | None = None,
    asked: bool = True,
) -> tuple[Terms, tuple[Requirement, ...]]:
    """Terms of a verdict, and the requirements that can be judged at all.

    Args:
        policy: What is asked for.
        precision: Of the engine.
        references: Parity figures that are measured; none where attacks are crafted on a surrogate.
        paired: Whether the images have ground truth.
        adapted: Attacks of the policy that are crafted on the engine's literal twin, too.
        registration: What was registered for lines that are decided by betting; None without them.
        measured: Downstream tasks and optional metrics that are measured.
        access: Attack to what it needs of a network, as far as that is known.
        asked: Whether the engine runs here; recorded outputs cannot be asked again, or in another batch.

    Raises:
        PolicyError: It asks for ground truth where there is none, for a downstream task that nothing does, or has no
            parity bounds for that precision.
    """
    requirements = policy.for_engine(precision, references)
    caps = [] if references else [NO_PARITY]
    if references and not any(r.name == "parity" for r in requirements):
        figures = " and ".join(references)
        caps.append(
            f"policy {policy.name} bounds no parity figure that was measured ({figures}): add parity.{precision}"
        )
    requirements = tuple(r for r in requirements if ATTACKED.get(r.quantity) in (None, *references))
    if not references:
        requirements = tuple(r for r in requirements if r.quantity != "transfer-gap")
    if not asked:
        requirements = tuple(r for r in requirements if r.quantity not in (INDEPENDENT_ROWS, REPEATABLE))
    if not paired and (needy := [r.name for r in requirements if quantity(r.quantity).needs_truth]):
        raise PolicyError(
            f"policy {policy.name} asks for {', '.join(dict.fromkeys(needy))}, which needs ground truth, and the "
            "images have none: use --policy unpaired, or one of your own that bounds drift"
        )
    if missing := [need for need in policy.needs if need not in measured]:
        needy = [r.name for r in requirements if quantity(r.quantity).needs == missing[0]]
        raise PolicyError(
            f"policy {policy.name} asks for {', '.join(dict.fromkeys(needy))}, and no {missing[0]} is measured: "
            + ("name a network for it with --downstream" if missing[0] in TASKS else "check the engine again with it")
        )
    attacks = judged_attacks(policy, adapted)
    partial = {*policy.scopes, *map(adaptive, policy.scopes)}.intersection(attacks)
    known = Known(dict(access or {}), tuple(sorted(partial)))
    return Terms(attacks, policy.minimum_scenes, tuple(caps), registration, known), requirements
