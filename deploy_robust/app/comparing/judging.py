"""The policy's verdict on every engine of a comparison, over all of its attacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.terms import CONVERSION, FIDELITY, adaptive, terms_of
from deploy_robust.gate.judge import judge
from deploy_robust.gate.quantities import ENGINE, SOURCE, TRANSFERRED
from deploy_robust.gate.quantities import LITERAL as TWIN
from deploy_robust.gate.records import INPUT
from deploy_robust.gate.table import Known
from deploy_robust.report.comparison.records import parity_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.policy import Policy
    from deploy_robust.gate.records import Measurement, Verdict


def judge_engines(
    plan: Mapping[str, Any], measurements: Sequence[Measurement], policy: Policy, *, unfinished: str = ""
) -> dict[str, Verdict]:
    """Judges each engine and build as a check would, on the measurements that concern it.

    An image counts at its worst over all attacks of the comparison, also those that were crafted on other networks: a
    verdict here may be harder than a check's, and never milder for the same images.

    Args:
        plan: What the comparison was made for.
        measurements: What it measured.
        policy: Its policy.
        unfinished: Why the comparison is not at its end; empty where it is.

    Raises:
        PolicyError: The policy has no bounds for the precision of an engine, or asks for ground truth where there is
            none.
    """
    return {engine["name"]: _judge(engine, plan, measurements, policy, unfinished) for engine in plan["engines"]}


def _judge(
    engine: Mapping[str, Any],
    plan: Mapping[str, Any],
    measurements: Sequence[Measurement],
    policy: Policy,
    unfinished: str,
) -> Verdict:
    references = [figure for figure, name in _figures(engine) if name is not None]
    terms, requirements = terms_of(
        policy,
        precision=engine["capabilities"]["precision"],
        references=references,
        paired=plan["pairs"]["paired"],
    )
    attacks = _attacks(engine, plan)
    if TRANSFERRED not in attacks.values():  # what compares engine and source was not crafted on its source
        requirements = tuple(line for line in requirements if line.quantity not in ("transfer-gap", "attack-lead"))
    caps = (*terms.caps, *((unfinished,) if unfinished else ()))
    access = {attacks[column["name"]]: column.get("access", "") for column in plan["columns"]}
    partial = {attacks[column["name"]] for column in plan["columns"] if column["attack"] in policy.scopes}
    known = Known(access, tuple(sorted(partial)))
    terms = replace(terms, attacks=tuple(attacks.values()), caps=caps, known=known)
    return judge(requirements, list(_seen(engine, attacks, measurements)), terms)


def _figures(engine: Mapping[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """The two parity figures with the networks that they compare with."""
    return (FIDELITY, engine["literal"]), (CONVERSION, engine["own"])


def _attacks(engine: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, str]:
    """Column to the name under which a policy knows it: on the engine's own network as it is, on its graph adaptive."""
    own = engine["own"] or engine["literal"]
    named = {}
    for column in plan["columns"]:
        name = column["name"]
        if column["source"] == own:
            name = column["attack"]
        elif column["source"] is not None and column["source"] == engine["literal"]:
            name = adaptive(column["attack"])
        named[column["name"]] = name
    return named


def _seen(
    engine: Mapping[str, Any], attacks: Mapping[str, str], measurements: Sequence[Measurement]
) -> Iterator[Measurement]:
    """The measurements of one engine, its source and its graph, under the names of a check."""
    own = engine["own"] or engine["literal"]
    roles = {engine["literal"]: TWIN, own: SOURCE, engine["name"]: ENGINE, INPUT: INPUT}
    for m in measurements:
        if m.role not in roles:
            continue
        values = dict(m.values)
        if m.role == engine["name"]:
            for figure, other in _figures(engine):
                for end in ("_db", "_max_abs"):
                    value = values.get(f"{parity_figure(engine['name'], str(other))}{end}")
                    if value is not None:
                        values[f"{figure}{end}"] = value
        case = replace(m.case, attack=attacks.get(m.case.attack, m.case.attack))
        yield replace(m, role=roles[m.role], case=case, values=values)
