"""The report for programs: everything in the summary, held by ``report.schema.json``."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy_robust.report.records import Summary
    from deploy_robust.report.summary import Run


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) that every ``report.json`` of this version satisfies."""
    text = files("deploy_robust.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def render(summary: Summary, run: Run) -> bytes:  # noqa: ARG001  # every format has one shape
    """The summary as JSON; foreign text is written in ASCII escapes, and every number is finite."""
    return (json.dumps(summary.to_dict(), indent=1, allow_nan=False) + "\n").encode("ascii")
