"""Tests by betting in every format: charts, claims, counterexamples, and words that a PASS must not use."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pytest

from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import Policy, load_policy
from deploy_robust.gate.records import INPUT, BatchResult, Case, Measurement, Requirement, digest_of_image
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.store import SqliteStore
from deploy_robust.report.counterexamples import write_counterexamples
from deploy_robust.report.formats import write_reports
from deploy_robust.report.json_report import schema
from deploy_robust.report.summary import summarise

if TYPE_CHECKING:
    from deploy_robust.report.records import Summary

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
RATE = Requirement("failure-rate", "drop", "failure_rate", levels=(1.0,), at_most=3.0, p0=0.2)
ATTACK = "local-credit"
MARKS = (1, 3, 10, 30)


def policy() -> Policy:
    attacks = {ATTACK: {"queries": 30}}
    return replace(
        load_policy("default"), name="verify", levels=(1.0,), attacks=attacks, requirements=(RATE,), scopes={}
    )


def written(folder: Path, losses: list[float], hostile: str = "u0", population: Any = "stream") -> Summary:
    """A run with so many dB lost by each unit, its reports and its counterexamples."""
    order = [hostile, *(f"u{i}" for i in range(1, len(losses)))]
    registration = Registration.of(
        policy(), population=population, source="fresh test scenes", identity={}, order=order, seed=0
    )
    assert registration is not None
    plan = {"command": "verify", "engine": {"file": "net.onnx", "sha256": "ab"}, "policy": policy().to_dict()}
    plan |= {"registration": registration.to_dict(), "terms": {"attacks": [ATTACK]}, "seed": 0}
    with SqliteStore.create_or_resume(folder / "run", plan) as store:
        for index, (pair, loss) in enumerate(zip(order, losses, strict=True)):
            image = np.full((32, 40, 3), index, np.uint8)
            sha256, clean, attacked = digest_of_image(image), Case(pair), Case(pair, ATTACK, 1.0)
            best = {f"psnr_at_{mark}": 30.0 - loss * mark / 30 for mark in MARKS}
            found = (
                Measurement(clean, pair, INPUT, "8bit", {"psnr": 18.0}, input_image=sha256),
                Measurement(clean, pair, "engine", "8bit", {"psnr": 30.0}, None, sha256, sha256),
                Measurement(
                    attacked, pair, "engine", "8bit", {"psnr": 30.0 - loss, "queries": 30.0, **best}, None, sha256
                ),
            )
            store.append(index, (clean, attacked), BatchResult(found, {sha256: image}))
        verdict = judge((RATE,), store.measurements(), Terms((ATTACK,), registration=registration))
        summary = summarise(store, verdict)
        write_reports(folder, store, summary)
        write_counterexamples(folder, store, summary)
    return summary


def texts(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in ("report.html", "report.json", "summary.md", "junit.xml")}


@pytest.mark.parametrize("population", ["stream", "set"])
@pytest.mark.parametrize("failing", [0, 9])
def test_every_format_tells_the_test(tmp_path: Path, hostile: str, failing: int, population: Any) -> None:
    losses = [5.0] * failing + [0.5] * (24 - failing)
    summary = written(tmp_path, losses, hostile, population)
    data = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(data, schema())
    (test,) = summary.tests
    assert summary.status == ("FAIL" if failing else "PASS")
    assert [sum(test.losses), len(test.counterexamples)] == [test.units if failing else 0] * 2
    assert data["registered"]["queries_spent"] == 24 * 30
    assert data["provenance"]["registration"]["order"] == "24 units"
    for name, text in texts(tmp_path).items():
        assert "registered suite" in text or (name == "junit.xml" and "failure-rate" in text)
        assert hostile not in text
        if not failing:
            assert not re.search(r"certified|guarantee|worst[ -]case", text, re.IGNORECASE), name
    (search,) = summary.searches
    assert search.queries == MARKS
    assert search.mean[-1] == pytest.approx(30 - np.mean(losses))
    assert search.lowest[-1] == 30 - max(losses)


def test_counterexamples_are_files_with_an_index(tmp_path: Path) -> None:
    summary = written(tmp_path, [0.1, 9.0, 0.1, 9.0, 9.0, 9.0, 9.0])
    index = json.loads((tmp_path / "counterexamples" / "index.json").read_text())
    assert [entry["case"]["pair"] for entry in index["found"]] == ["u1", "u3", "u4", "u5", "u6"][: len(index["found"])]
    assert len(index["found"]) == len(summary.tests[0].counterexamples) >= 3
    assert all((tmp_path / "counterexamples" / entry["file"]).is_file() for entry in index["found"])
    assert {entry["value"] for entry in index["found"]} == {9.0}


def test_an_open_test_says_how_to_go_on(tmp_path: Path) -> None:
    summary = written(tmp_path, [0.1] * 5)
    assert summary.status == "INCONCLUSIVE"
    assert summary.next_steps == (("deploy-robust verify --engine net.onnx --units 10", "continue the same test"),)


def test_the_chart_draws_the_wealth_to_the_last_unit(tmp_path: Path) -> None:
    summary = written(tmp_path, [0.1] * 24)
    page = (tmp_path / "report.html").read_text()
    (svg,) = re.findall(r'<svg[^>]*aria-label="Wealth of test 1.*?</svg>', page, re.DOTALL)
    root = ET.fromstring(svg)
    words = [element.text for element in root.iter() if element.text and element.text.strip()]
    assert {"units", "wealth", "10", "0.001"} <= set(words)
    assert str(summary.tests[0].units)[:1] in "".join(words)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_draws_both_charts_without_a_complaint(tmp_path: Path) -> None:
    written(tmp_path, [0.1, 5.0] * 8)
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    browser = module.Browser(CHROMIUM, tmp_path / "profile")
    try:
        browser.open(tmp_path / "report.html")
        size = "[...document.querySelectorAll('.few .chart')].map((c) => c.getBoundingClientRect().width)"
        assert [width > 200 for width in browser.value(size)] == [True, True]
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints() == []
    finally:
        browser.close()
