"""What to run next: commands that fit how the run was made."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.quantities import SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

Advice = tuple[str, str]
"""A command, and what it is for."""


class Advisor:
    """Advises on one run."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        """Reads how the run was made.

        Args:
            plan: The run's plan; missing keys are taken as unknown.
        """
        engine = plan.get("engine") or {}
        self._precision = plan.get("precision", "fp32")
        self._set: str | None = (plan.get("adversarial") or {}).get("name")
        self._outputs: str | None = (engine.get("outputs") or {}).get("folder")
        self.engine = shlex.quote(str(engine.get("file") or "ENGINE"))

    @property
    def check(self) -> str:
        """The check again."""
        words = ["deploy-robust check"]
        words += [] if self._set is None else [f"--adversarial {shlex.quote(self._set)}"]
        words += [f"--engine {self.engine}" if self._outputs is None else f"--outputs {shlex.quote(self._outputs)}"]
        return " ".join(words)

    def against(self, cause: str, *, attacked: bool) -> Advice:
        """Against a cause: ``source``, ``precision`` or ``runtime``."""
        if cause == SOURCE:
            command = "deploy-robust train --adversarial" if attacked else "deploy-robust train"
            aim = "harden the network itself" if attacked else "train the network further"
            return command, f"{aim}: no export can repair its weights"
        if cause == "precision":
            return "deploy-robust export --precision fp32", "see whether a higher precision holds what this one lost"
        return self._runtime("see which runtimes compute correctly on this machine")

    def against_defects(self) -> Advice:
        """Against an engine that misbehaves."""
        return self._runtime("see whether the runtime itself is sound")

    def _runtime(self, here: str) -> Advice:
        if self._outputs is None:
            return "deploy-robust doctor", here
        command = f"deploy-robust check --adversarial {shlex.quote(str(self._set))} --engine ARTEFACT"
        return command, "run the artefact here, on the same images, to tell the target from the graph"

    def against_broken_parity(self) -> Advice:
        """Against an engine that differs from its reference."""
        return (
            f"deploy-robust export --precision {self._precision}",
            "export again; a sound export passes its own parity check",
        )

    def with_source(self) -> Advice:
        """For an attack that fits the engine."""
        if self._set is not None:
            return (
                "deploy-robust attack --source CHECKPOINT",
                "craft a set on the very weights that the engine was made from",
            )
        command = f"{self.check} --source CHECKPOINT"
        return command, "craft the attack on the very weights that the engine was made from"

    def more_scenes(self, count: int) -> Advice:
        """For an interval that is too wide."""
        if self._set is not None:
            return f"deploy-robust attack --limit {count}", "craft a set of more scenes"
        return f"{self.check} --limit {count}", "measure more scenes"

    def float_outputs(self) -> Advice:
        """For a figure that rounding hides."""
        return self.check, "after recording the outputs as float32 .npy"
