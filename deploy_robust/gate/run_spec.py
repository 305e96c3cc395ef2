"""The form of what a run folder says of itself: the plan that its measurements depend on, and notes beside them.

Plans are plain data that grew with the versions: a form names the keys that somebody reads, and leaves the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.boundary import Holding

Name = Annotated[str, MinLen(1)]
Count = Annotated[int, Ge(0)]
Counted = Annotated[int, Ge(1)]
Table = Mapping[str, Any]
Words = list[str]

CAPABILITIES = Annotated[Table, Holding({"runtime": str, "device": str, "precision": str})]
ENGINE = Annotated[
    Table,
    Holding(
        {
            "sha256": str | None,
            "capabilities": CAPABILITIES,
            "io": IODescription,
            "outputs": Annotated[Table, Holding(folder=str, sha256=str)],
            "nodes": Words,
        },
        file=str,
    ),
]
SOURCE = Annotated[
    Table, Holding({"kind": str, "weights_sha256": str, "capabilities": CAPABILITIES, "nodes": Words}, name=str)
]
PAIRS = Annotated[Table, Holding(name=str, count=Count, paired=bool, identity=Table)]
COMPARED = Annotated[Table, Holding(name=str, build_of=str | None)]

RUN_SPEC = Annotated[
    Table,
    Holding(
        {
            "engine": ENGINE | None,
            "source": SOURCE | None,
            "literal": SOURCE | None,
            "precision": str,
            "references": list[Literal["fidelity", "conversion"]],
            "adapted": Words,
            "terms": Annotated[
                Table,
                Holding({"access": dict[str, str], "partial": Words}, attacks=Words, minimum_scenes=Count, caps=Words),
            ],
            "downstream": dict[str, Annotated[Table, Holding({"classes": Words}, name=str, sha256=str)]],
            "metrics": Words,
            "adversarial": Annotated[Table, Holding(name=str)],
            "engines": list[COMPARED],
        },
        command=Literal["check", "verify", "attack", "compare"],
        pairs=PAIRS,
        policy=Table,
        seed=Count,
        threads=Counted,
        batch=Annotated[Table, Holding(pairs=Counted, rows=Counted | None)],
        notes=Words,
        versions=dict[str, str],
    ),
]
"""What every reader of a plan may rely on; `policy` and `registration` have readers of their own."""

OF_ONE = Annotated[
    Table, Holding(engine=ENGINE | None, source=SOURCE | None, precision=str, references=Words, terms=Table)
]
OF_SEVERAL = Annotated[Table, Holding(engines=list[COMPARED])]


def required_of(plan: Mapping[str, Any]) -> Any:
    """What a plan holds beyond `RUN_SPEC`: that of a comparison several engines, any other at most one."""
    return OF_SEVERAL if plan["command"] == "compare" else OF_ONE


VERDICT_NOTE = Annotated[Table, Holding(status=Literal["PASS", "FAIL", "INCONCLUSIVE"], sentence=str, policy=Table)]
