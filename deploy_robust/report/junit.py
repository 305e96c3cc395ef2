"""The report for pipelines: JUnit XML as GitLab, GitHub and Jenkins render it.

One test case for each requirement and epsilon. FAIL is a failure. INCONCLUSIVE is an error, never a skip: all three
servers show a skipped test as harmless, and a gate that could not decide must not look green. What keeps the whole run
from passing, like too few scenes, is a test case of its own for the same reason.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from deploy_robust.gate.records import Status
from deploy_robust.report.wording import (
    bound,
    case_name,
    margin,
    measured,
    measured_interval,
    printable,
    requirement_name,
)

if TYPE_CHECKING:
    from deploy_robust.report.records import OutcomeRow, Summary
    from deploy_robust.report.summary import Run


def render(summary: Summary, run: Run) -> bytes:  # noqa: ARG001  # every format has one shape
    """The XML as UTF-8 bytes."""
    engine = summary.provenance.get("engine") or {}
    policy = (summary.provenance.get("policy") or {}).get("name", "policy")
    suite = TestSuite(printable(f"deploy-robust: {engine.get('file', 'engine')}"))
    suite.add_property("verdict", printable(summary.sentence))
    suite.add_property("engine.sha256", printable(str(engine.get("sha256", ""))))
    suite.add_property("policy", printable(str(policy)))
    if stored := summary.provenance.get("adversarial"):
        suite.add_property("adversarial.sha256", printable(str(stored["sha256"])))
    if outputs := engine.get("outputs"):
        suite.add_property("outputs.sha256", printable(str(outputs["sha256"])))
    class_name = printable(f"deploy-robust.{policy}")
    for row in summary.outcomes:
        case = TestCase(requirement_name(row), classname=class_name, time=0)
        if row.status is Status.FAIL:
            case.result = [_fill(Failure(_message(row), "requirement"), row)]
        elif row.status is Status.INCONCLUSIVE:
            case.result = [_fill(Error(_message(row), "inconclusive"), row)]
        suite.add_testcase(case)
    for number, cap in enumerate(summary.caps, start=1):
        case = TestCase(f"evidence {number}", classname=class_name, time=0)
        case.result = [Error(printable(f"INCONCLUSIVE: {cap}"), "inconclusive")]
        suite.add_testcase(case)
    suite.update_statistics()
    xml = JUnitXml("deploy-robust")
    xml.add_testsuite(suite)
    xml.update_statistics()
    xml._elem.attrib.pop("skipped", None)  # the schema of Jenkins' xUnit plug-in knows it on a suite only
    buffer = io.BytesIO()
    xml.write(buffer, pretty=True)
    return buffer.getvalue()


def _message(row: OutcomeRow) -> str:
    """Requirement, bound, measured value and worst case in one line."""
    parts = [f"{row.status}: {requirement_name(row)}", f"bound {bound(row)}", f"measured {measured(row)}"]
    if ends := measured_interval(row):
        parts[-1] += f" {ends}"
    if row.margin is not None:
        parts.append(f"margin {margin(row)}")
    if row.worst is not None:
        parts.append(f"worst case {case_name(row.worst)}")
    return "; ".join(parts)


def _fill(result: Failure | Error, row: OutcomeRow) -> Failure | Error:
    """Adds the reason, the attribution and the next command as the result's text."""
    lines = [f"{row.statistic} of: {row.meaning}", f"reason: {row.reason}" if row.reason else ""]
    if row.explanation is not None:
        lines += row.explanation.sentences
        if row.explanation.command:
            lines.append(f"next: {row.explanation.command} ({row.explanation.purpose})")
    result.text = "\n".join(printable(line) for line in lines if line)
    return result
