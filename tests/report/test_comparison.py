"""The figures of a comparison against counting by hand, and the rule for damaged engines."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from deploy_robust.gate.records import (
    BATCH_APART,
    BATCH_DB,
    CLEAN,
    INPUT,
    REPEAT,
    ROWS,
    ROWS_APART,
    Case,
    Defect,
    Measurement,
    Outcome,
    Requirement,
    Status,
    Verdict,
)
from deploy_robust.report.comparison.formats import write_comparison
from deploy_robust.report.comparison.html import render
from deploy_robust.report.comparison.records import WORST, Comparison, parity_figure
from deploy_robust.report.comparison.summary import summarise

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PAIRS = [f"image-{i:02d}" for i in range(12)]
LEVELS = (1.0, 4.0)
COLUMNS = (
    {"name": "pgd on net", "attack": "pgd", "source": "net", "kind": "torch"},
    {"name": "noise", "attack": "noise", "source": None, "kind": "none"},
)
FIDELITY = Requirement("parity", "fidelity", statistic="min", at_least=25.0)


def engine(name: str, **facts: Any) -> dict[str, Any]:
    found = {"runtime": "test 1", "provider": "cpu", "precision": "int8"}
    return {
        "name": name,
        "file": f"{name}.onnx",
        "sha256": name,
        "capabilities": found,
        "own": "net",
        "literal": None,
        "build_of": None,
        "how": "",
        **facts,
    }


def plan(*engines: dict[str, Any], paired: bool = True) -> dict[str, Any]:
    source = {"name": "net", "kind": "torch", "weights_sha256": "w", "attacks": True}
    pairs = {"paired": paired, "name": "test", "count": len(PAIRS)}
    return {
        "engines": list(engines),
        "sources": [source],
        "columns": list(COLUMNS),
        "pairs": pairs,
        "seed": 0,
        "notes": ["a note"],
    }


def psnr(role: str, pair: str, attack: str, level: float) -> float:
    """Something that differs everywhere and is known."""
    if role == INPUT:
        return 20.0
    base = {"a": 30.0, "b": 29.0, "net": 30.5}.get(role, 31.0)
    wobble = math.sin((3.0 + 0.02 * ord(role[0])) * PAIRS.index(pair) + sum(map(ord, attack)))
    return base + wobble - (2.2 * level if attack != CLEAN else 0)


def measurements(roles: tuple[str, ...] = ("a", "b", "net"), *, skip: tuple[tuple[str, str], ...] = ()) -> list[Any]:
    found = []
    for pair in PAIRS:
        clean = Case(pair)
        found.append(Measurement(clean, pair, INPUT, "8bit", {"psnr": 20.0}))
        for i, role in enumerate(roles):
            values = {"psnr": psnr(role, pair, CLEAN, 0)}
            for other in roles[i + 1 :]:
                figure = parity_figure(role, other)
                values |= {f"{figure}_db": 40.0 + PAIRS.index(pair), f"{figure}_max_abs": 0.01}
            if role != "net":
                values[REPEAT] = 0.0
                rows = {ROWS_APART: 0.0, BATCH_APART: 1e-3, BATCH_DB: 60.0}
                found.append(Measurement(Case(pair, ROWS), pair, role, "8bit", rows))
            found.append(Measurement(clean, pair, role, "8bit", values))
            for column in COLUMNS:
                for level in LEVELS:
                    if (role, pair) not in skip:
                        value = psnr(role, pair, str(column["name"]), level)
                        case = Case(pair, str(column["name"]), level)
                        found.append(Measurement(case, pair, role, "8bit", {"psnr": value, "drift": value + 5}))
    return found


def verdict(parity: Status = Status.PASS, value: float = 40.0) -> Verdict:
    outcome = Outcome(FIDELITY, None, parity, value=value, low=value, high=value)
    return Verdict(parity, (outcome,))


def compared(**options: Any) -> Comparison:
    verdicts = {"a": verdict(), "b": verdict()}
    return summarise(plan(engine("a"), engine("b")), measurements(), verdicts, **{"resamples": 2000, **options})


def test_means_gaps_and_their_intervals() -> None:
    found = compared()
    assert found.levels == LEVELS
    assert found.rain == 20.0
    for name in ("a", "b", "net"):
        for column in ("pgd on net", "noise"):
            for level in LEVELS:
                cell = found.cell(name, column, level)
                assert cell is not None
                values = np.array([psnr(name, pair, column, level) for pair in PAIRS])
                clean = np.array([psnr(name, pair, CLEAN, 0) for pair in PAIRS])
                assert cell.images == len(PAIRS)
                assert cell.mean == pytest.approx(values.mean())
                assert cell.drop == pytest.approx((clean - values).mean())
                if column == "noise" or name == "net":
                    assert cell.gap is None
                    continue
                source = np.array([psnr("net", pair, column, level) for pair in PAIRS])
                assert cell.gap is not None
                assert cell.gap.mean == pytest.approx((values - source).mean())
                theirs = stats.bootstrap(
                    (values - source,), np.mean, n_resamples=5000, random_state=np.random.default_rng(3)
                ).confidence_interval
                width = theirs.high - theirs.low
                assert cell.gap.low == pytest.approx(theirs.low, abs=0.1 * width)
                assert cell.gap.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_agreement_is_counted_image_by_image() -> None:
    found = compared()
    for level in LEVELS:
        for column in ("pgd on net", "noise", WORST):
            (row,) = [r for r in found.agreement if (r.column, r.level) == (column, level)]
            names = ["pgd on net", "noise"] if column == WORST else [column]
            a, b = (np.array([min(psnr(n, pair, c, level) for c in names) for pair in PAIRS]) for n in "ab")
            assert (row.both, row.only_a, row.only_b, row.neither) == (
                int(((a < 20) & (b < 20)).sum()),
                int(((a < 20) & (b >= 20)).sum()),
                int(((a >= 20) & (b < 20)).sum()),
                int(((a >= 20) & (b >= 20)).sum()),
            )
            losses = [np.array([psnr(n, pair, CLEAN, 0) for pair in PAIRS]) - v for n, v in (("a", a), ("b", b))]
            assert row.tau == pytest.approx(stats.kendalltau(*losses).statistic)
            assert row.difference.mean == pytest.approx((a - b).mean())


def test_what_one_engine_did_not_answer_counts_for_neither() -> None:
    verdicts = {"a": verdict(), "b": verdict()}
    missing = (("a", PAIRS[0]), ("net", PAIRS[1]))
    found = summarise(plan(engine("a"), engine("b")), measurements(skip=missing), verdicts, resamples=500)
    cell = found.cell("a", "pgd on net", 4.0)
    assert cell is not None
    assert cell.images == len(PAIRS) - 1
    both = PAIRS[2:]
    apart = [psnr("a", pair, "pgd on net", 4.0) - psnr("net", pair, "pgd on net", 4.0) for pair in both]
    assert cell.gap is not None
    assert cell.gap.mean == pytest.approx(np.mean(apart))
    assert {row.images for row in found.agreement} == {len(PAIRS) - 1}


def test_a_damaged_engine_is_struck_out_everywhere() -> None:
    verdicts = {"a": verdict(Status.FAIL, 17.3), "b": verdict()}
    found = summarise(plan(engine("a"), engine("b")), measurements(), verdicts, max_gap=90.0, resamples=500)
    reason = "parity is broken: fidelity 17.3 dB (at least 25)"
    assert found.engines[0].void == reason
    assert {cell.void for cell in found.cells if cell.engine == "a"} == {reason}
    assert {cell.void for cell in found.cells if cell.engine != "a"} == {""}
    assert all(reason in row.void for row in found.agreement)
    assert [line.engine for line in found.exceeded] == ["a"], "a void engine holds no bound, however wide"
    page = render(found).decode()
    assert page.count("<s>") >= 2 * 2 * 2
    assert reason in page


def test_answers_that_are_no_image_void_their_cell() -> None:
    case = Case(PAIRS[0], "noise", 4.0)
    rows = [m for m in measurements() if (m.case, m.role) != (case, "b")]
    rows.append(Measurement(case, PAIRS[0], "b", "8bit", defect=Defect("nan", "NaN")))
    found = summarise(plan(engine("a"), engine("b")), rows, {"a": verdict(), "b": verdict()}, resamples=500)
    void = {(c.engine, c.column, c.level): c.void for c in found.cells if c.void}
    assert void == {("b", "noise", 4.0): "answers that were no image: 1"}


def test_the_bound_holds_only_where_the_whole_interval_does() -> None:
    gaps = {(c.engine, c.level): c.gap for c in compared().cells if c.column == "pgd on net" and c.engine in "ab"}
    ends = [max(abs(gap.low or math.inf), abs(gap.high or math.inf)) for gap in gaps.values() if gap is not None]
    assert compared(max_gap=max(ends) + 0.01).exceeded == ()
    broken = compared(max_gap=max(ends) - 0.01).exceeded
    assert [line.engine for line in broken] == ["b", "b"][: len(broken)]
    assert broken
    lone = summarise(plan(engine("a", own=None)), measurements(("a", "net")), {"a": verdict()}, max_gap=9.0)
    assert "no gap is measured" in lone.exceeded[0].reason


def test_builds_are_told_apart_and_kept_out_of_the_maps() -> None:
    engines = (engine("a"), engine("a #2", build_of="a", how="opened anew", sha256="a"), engine("b"))
    verdicts = {"a": verdict(), "a #2": verdict(Status.INCONCLUSIVE), "b": verdict()}
    found = summarise(plan(*engines), measurements(("a", "a #2", "b", "net")), verdicts, resamples=500)
    assert [row.name for row in found.engines] == ["a", "b"]
    assert {cell.engine for cell in found.cells} == {"a", "b", "net"}
    (builds,) = found.builds
    assert (builds.engine, builds.files, builds.verdicts) == ("a", 1, ("PASS", "INCONCLUSIVE"))
    for figure in builds.figures:
        if figure.level is not None:
            worst = [
                np.mean([min(psnr(n, p, c, figure.level) for c in ("pgd on net", "noise")) for p in PAIRS])
                for n in ("a", "a #2")
            ]
            assert figure.values == pytest.approx(worst)
            assert figure.spread == pytest.approx(max(worst) - min(worst))


def test_it_is_json_and_a_page_whatever_the_names_are() -> None:
    name = "<b>x</b>\x1b[31m"
    verdicts = {name: verdict()}
    found = summarise(plan(engine(name)), measurements((name, "net")), verdicts, resamples=500)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["engines"][0]["name"] == name
    page = render(found).decode()
    assert "<b>x</b>" not in page
    assert "\x1b" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_without_ground_truth_it_compares_drift() -> None:
    rows = [m for m in measurements() if m.role != INPUT]
    rows = [
        Measurement(m.case, m.scene, m.role, m.delivery, {k: v for k, v in m.values.items() if k != "psnr"})
        for m in rows
    ]
    found = summarise(
        plan(engine("a"), engine("b"), paired=False), rows, {"a": verdict(), "b": verdict()}, resamples=500
    )
    assert found.metric == "drift"
    cell = found.cell("a", "noise", 1.0)
    assert cell is not None
    assert cell.mean == pytest.approx(5 + np.mean([psnr("a", pair, "noise", 1.0) for pair in PAIRS]))
    assert found.agreement[0].both is None
    assert b"worse than the rain" not in render(found)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_page_opens_without_a_complaint_and_its_squares_are_coloured_or_struck(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    verdicts = {"a": verdict(Status.FAIL, 17.3), "b": verdict()}
    found = summarise(plan(engine("a"), engine("b")), measurements(), verdicts, resamples=500)
    page = write_comparison(tmp_path, found)["html"]
    browser = module.Browser(CHROMIUM, tmp_path / "profile")
    try:
        browser.open(page)
        assert browser.complaints() == []
        assert [url for url in browser.requests() if not url.endswith("/report.html")] == []
        struck = "[...document.querySelectorAll('td.void')].every((cell) => cell.querySelector('s') && cell.title)"
        assert browser.value(struck)
        colours = (
            "new Set([...document.querySelectorAll('td.level')].map((c) => getComputedStyle(c).backgroundColor)).size"
        )
        assert browser.value(colours) > 3
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert browser.value(wide), "wide maps scroll by themselves, and the page does not"
    finally:
        browser.close()
