"""The plan of a run: everything that its measurements depend on, as plain data."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from deploy_robust import __version__
from deploy_robust.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy_robust.app.execution import Facts
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.judge import Terms
    from deploy_robust.gate.policy import Policy

CRAFTING = "attack"
"""The command whose runs craft a set and judge nothing."""

COMPARING = "compare"
"""The command whose runs set engines side by side."""

_PACKAGES = ("torch", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "openvino", "scikit-image")


def plan_of(
    command: str,
    policy: Policy,
    pairs: PairSource,
    facts: Facts,
    terms: Terms,
    *,
    seed: int,
    pairs_per_batch: int | None,
    rows: int | None,
) -> dict[str, Any]:
    """A run folder is resumed for an equal plan only."""
    plan = {
        "command": command,
        "engine": None if facts.engine is None else dict(facts.engine),
        "source": None if facts.source is None else dict(facts.source),
        "pairs": {"name": pairs.name, "count": len(pairs), "paired": pairs.paired, "identity": dict(pairs.identity)},
        "policy": policy.to_dict(),
        "precision": facts.precision,
        "references": list(facts.references),
        "adapted": list(facts.adapted),
        "literal": None if facts.literal is None else dict(facts.literal),
        "seed": seed,
        "threads": facts.threads,
        "batch": {"pairs": batch_size(pairs_per_batch, facts), "rows": rows},
        "terms": {
            "attacks": list(terms.attacks),
            "minimum_scenes": terms.minimum_scenes,
            "caps": list(terms.caps),
            "access": dict(terms.known.access),
            "partial": list(terms.known.partial),
        },
        "notes": list(facts.notes),
        "versions": versions(),
    }
    if facts.downstream:
        plan["downstream"] = {task: dict(known) for task, known in facts.downstream.items()}
    if facts.optional:
        plan["metrics"] = list(facts.optional)
    if facts.adversarial is not None:
        plan |= {"adversarial": dict(facts.adversarial), "seed": facts.adversarial["seed"]}
    return plan


def batch_size(asked: int | None, facts: Facts) -> int:
    """Pairs executed and committed together: as asked for, or what suits the device."""
    return asked or (8 if facts.on_gpu else 1)


def versions() -> dict[str, str]:
    """What the measurements may depend on, by name."""
    found = {"deploy-robust": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def require_judged(plan: Mapping[str, Any], folder: Path) -> None:
    """Refuses the run of a set, in which nothing is judged, and that of a comparison, which is judged as a whole.

    Raises:
        RunError: It is one.
    """
    if plan.get("command") == CRAFTING:
        raise RunError(
            f"the run in {folder} crafted an adversarial set and judged no engine: "
            "`deploy-robust check --adversarial SET` does, in a run of its own"
        )
    if plan.get("command") == COMPARING:
        raise RunError(
            f"the run in {folder} compares several engines: its report.html holds every verdict; repeat "
            "`deploy-robust compare` to write it anew, or `deploy-robust check` one of them"
        )
