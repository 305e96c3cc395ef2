"""What a verdict rests on: the same for a check that measures and for a judgement of what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import PolicyError
from deploy_robust.gate.judge import Terms
from deploy_robust.gate.quantities import quantity

if TYPE_CHECKING:
    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Requirement

CONVERSION = "conversion"
"""The parity figure that compares the engine with its fp32 source."""

NO_PARITY = "the engine's parity could not be measured: no source of its own was given (--source)"


def terms_of(policy: Policy, *, precision: str, twin: bool, paired: bool) -> tuple[Terms, tuple[Requirement, ...]]:
    """Terms of a verdict, and the requirements that can be judged at all.

    Args:
        policy: What is asked for.
        precision: Of the engine.
        twin: Whether attacks are crafted on the network that the engine was made from.
        paired: Whether the images have ground truth.

    Raises:
        PolicyError: It asks for ground truth where there is none, or has no parity bounds for that precision.
    """
    caps = [] if twin else [NO_PARITY]
    requirements = policy.for_engine(precision, {CONVERSION} if twin else set())
    if not twin:
        requirements = tuple(r for r in requirements if r.quantity != "transfer-gap")
    if not paired and (needy := [r.name for r in requirements if quantity(r.quantity).needs_truth]):
        raise PolicyError(
            f"policy {policy.name} asks for {', '.join(dict.fromkeys(needy))}, which needs ground truth, and the "
            "images have none: use --policy unpaired, or one of your own that bounds drift"
        )
    return Terms(tuple(policy.attacks), policy.minimum_scenes, tuple(caps)), requirements
