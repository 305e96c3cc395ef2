"""The formats for machines, terminals and pull requests, read back by somebody else's readers."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml
from rich.console import Console

from deploy_robust.errors import InputError, UsageError
from deploy_robust.gate.records import Case
from deploy_robust.report import json_report, terminal
from deploy_robust.report.formats import FORMATS, write_reports
from deploy_robust.report.summary import summarise
from deploy_robust.report.wording import epsilons, number, printable

if TYPE_CHECKING:
    from pathlib import Path


def failing(fake, hostile):
    return fake(
        pairs=[hostile, *(f"pair-{i}" for i in range(11))],
        attacked=lambda role, attack, level: 10.0 if attack == "pgd-lmse" else 24.0,
        defects=(Case("pair-3", "pgd-lmse", 8.0),),
        plan={"engine": {"file": hostile, "sha256": "ab" * 32}, "notes": [hostile]},
    )


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(renderable)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_all_formats_are_written_whole_and_nothing_else_is_left(tmp_path: Path, fake, hostile) -> None:
    store, verdict = failing(fake, hostile).write(tmp_path / "run")
    written = write_reports(tmp_path / "out", store, summarise(store, verdict))
    assert list(written) == ["json", "junit", "markdown", "html"] == list(FORMATS)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json",
        "junit.xml",
        "summary.md",
        "report.html",
    }


def test_a_report_of_the_same_run_has_the_same_bytes(tmp_path: Path, fake) -> None:
    store, verdict = fake(pairs=["a", "b"]).write(tmp_path)
    first = {
        name: path.read_bytes()
        for name, path in write_reports(tmp_path / "1", store, summarise(store, verdict)).items()
    }
    second = {
        name: path.read_bytes()
        for name, path in write_reports(tmp_path / "2", store, summarise(store, verdict)).items()
    }
    assert first == second


def test_an_unknown_format_and_a_folder_that_cannot_be_made_are_said(tmp_path: Path, fake) -> None:
    store, verdict = fake(pairs=["a"]).write(tmp_path / "run")
    with pytest.raises(UsageError, match="did you mean 'junit'"):
        write_reports(tmp_path, store, summarise(store, verdict), ["junti"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        write_reports(tmp_path / "file", store, summarise(store, verdict), ["json"])


@pytest.mark.parametrize("kind", ["passing", "failing", "nothing", "identical"])
def test_the_json_report_satisfies_its_schema(tmp_path: Path, fake, hostile, kind: str) -> None:
    runs = {
        "passing": fake(),
        "failing": failing(fake, hostile),
        "nothing": fake(pairs=[]),
        "identical": fake(clean={"engine": float("inf"), "source": float("inf")}, conversion=float("inf")),
    }
    store, verdict = runs[kind].write(tmp_path)
    schema = json_report.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    report = json.loads(json_report.render(summarise(store, verdict), store))
    jsonschema.validate(report, schema)
    assert report["status"] == verdict.status
    if kind == "failing":
        assert hostile in {row["case"]["pair"] for row in report["cases"]}  # machines get the id as it is


def test_junit_has_a_failure_for_fail_and_an_error_for_inconclusive_and_for_caps(tmp_path: Path, fake, hostile) -> None:
    store, verdict = failing(fake, hostile).write(tmp_path / "run")
    path = write_reports(tmp_path, store, summarise(store, verdict), ["junit"])["junit"]
    xml = JUnitXml.fromfile(str(path))
    cases = {case.name: case for suite in xml for case in suite}
    by_status = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": len(verdict.caps)}
    for outcome in verdict.outcomes:
        by_status[outcome.status] += 1
    kinds = [case.result[0].__class__ if case.result else None for case in cases.values()]
    assert (kinds.count(None), kinds.count(Failure), kinds.count(Error)) == tuple(by_status.values())
    assert (xml.tests, xml.failures, xml.errors, next(iter(xml)).skipped) == (
        len(cases),
        by_status["FAIL"],
        by_status["INCONCLUSIVE"],
        0,
    )
    failure = cases["do-no-harm at 2/255"].result[0]
    for part in ("bound ≥ 0", "measured \u22128.0", "worst case", "pgd-lmse at 2/255"):
        assert part in failure.message
    assert "The source alone fails this too" in failure.text
    assert "next: deploy-robust train" in failure.text
    assert "12 independent scenes" in cases["evidence 1"].result[0].message


def test_a_passing_run_is_green_in_junit(tmp_path: Path, fake) -> None:
    store, verdict = fake(attacked=lambda role, attack, level: 24.0).write(tmp_path / "run")
    xml = JUnitXml.fromfile(str(write_reports(tmp_path, store, summarise(store, verdict), ["junit"])["junit"]))
    assert (xml.failures, xml.errors, next(iter(xml)).skipped) == (0, 0, 0)
    assert xml.tests == len(verdict.outcomes)
    # Jenkins' xUnit plug-in refuses the attribute on the root.
    assert 'skipped="0"' not in (tmp_path / "junit.xml").read_text(encoding="utf-8").partition("<testsuite ")[0]


def test_no_format_lets_a_terminal_escape_or_a_change_of_direction_through(tmp_path: Path, fake, hostile) -> None:
    store, verdict = failing(fake, hostile).write(tmp_path / "run")
    for path in write_reports(tmp_path / "out", store, summarise(store, verdict)).values():
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\\u202e" in text


def test_markdown_escapes_what_a_file_name_could_do_to_a_pull_request(tmp_path: Path, fake, hostile) -> None:
    store, verdict = failing(fake, hostile).write(tmp_path / "run")
    text = write_reports(tmp_path, store, summarise(store, verdict), ["markdown"])["markdown"].read_text(
        encoding="utf-8"
    )
    assert text.startswith("## ❌ deploy-robust: ")
    assert "<img" not in text
    assert "@team" not in "".join(line for line in text.splitlines() if "`deploy-robust" not in line)
    tables = [line for line in text.splitlines() if line.startswith("| do-no-harm")]
    assert len(tables) == 3
    assert all(line.replace("\\|", "").count("|") == 7 for line in tables)


def test_the_terminal_shows_names_as_text_and_every_requirement(tmp_path: Path, fake, hostile) -> None:
    summary = summarise(*failing(fake, hostile).write(tmp_path))
    panel = printed(terminal.verdict_panel(summary))
    assert "FAIL" in panel
    assert "<img src=x onerror=alert(1)>\\x1b[31m" in panel.replace("\n", "")
    assert "\x1b" not in panel
    table = printed(terminal.requirement_table(summary))
    assert table.count("do-no-harm at") == 3
    assert "\u22128.0" in table
    baselines = printed(terminal.baseline_table(summary))
    assert "rainy input" in baselines
    assert "adversarial" in baselines
    assert "10.00" in baselines


def test_the_tables_fit_into_eighty_columns(tmp_path: Path, fake) -> None:
    summary = summarise(*fake(pairs=["a", "b", "c"]).write(tmp_path))
    for table in (terminal.requirement_table(summary), terminal.baseline_table(summary)):
        console = Console(file=io.StringIO(), width=80, force_terminal=False)
        console.print(table)
        text = console.file.getvalue()
        assert "\N{HORIZONTAL ELLIPSIS}" not in text
        assert max(len(line) for line in text.splitlines()) <= 80


def test_a_run_without_ground_truth_has_tables_of_drift(tmp_path: Path, fake) -> None:
    summary = summarise(*fake(pairs=[]).write(tmp_path))
    assert terminal.baseline_table(summary) is None


@pytest.mark.parametrize(
    ("raw", "safe"),
    [("plain é 漢", "plain é 漢"), ("a\x1b[0m", "a\\x1b[0m"), ("a\nb", "a\\nb"), ("\udcff.png", "\\udcff.png")],
)
def test_printable_writes_out_what_is_not(raw: str, safe: str) -> None:
    assert printable(raw) == safe
    assert printable(safe) == safe


def test_figures_and_epsilons_are_written_for_people() -> None:
    assert number(-1.5) == "\u22121.50"
    assert number(-0.001) == "0.00"
    assert number(None) == "\u2013"
    assert epsilons([1.0]) == "1/255"
    assert epsilons([1.0, 2.0, 4.0]) == "1, 2 and 4/255"
