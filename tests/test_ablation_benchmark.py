"""`benchmarks/ablations.py`: results survive an end at any time, and the rule behind its sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy_robust.statistics.intervals import Interval

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablation_grid
    import ablation_summary
    import ablations

    return ablation_grid, ablation_summary, ablations


def row(configuration: str, seed: int, value: float, ssim: float = 0.7) -> dict[str, object]:
    columns = dict.fromkeys(("clean_psnr", "psnr_1", "psnr_2", "psnr_4", "psnr_8", "map_psnr"), value)
    common = {
        "configuration": configuration,
        "seed": seed,
        "parameters": 1000,
        "steps": 10,
        "cpu_seconds": 20.0,
        "rain_psnr": 19.0,
        "map_ssim": ssim,
    }
    return {**common, **columns, "clean_ssim": ssim}


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((1.0, 0.01, 2.0), "reproduced"),
        ((1.0, -0.01, 2.0), "not decidable at this scale"),
        ((0.0, -0.2, 0.2), "not decidable at this scale"),
        ((0.0, -0.05, 0.05), "not reproduced"),
        ((-1.0, -1.5, -0.5), "not reproduced"),
    ],
)
def test_a_comparison_is_judged_by_its_interval(parts, interval, said):
    assert parts[1].verdict(Interval(*interval), 0.1) == said


def test_an_insight_needs_all_its_comparisons_and_falls_with_one(parts):
    summary = parts[1]
    yes, no, open_ = summary.REPRODUCED, summary.NOT_REPRODUCED, summary.NOT_DECIDABLE
    assert summary.verdict_of_all([yes, yes]) == yes
    assert summary.verdict_of_all([yes, open_]) == open_
    assert summary.verdict_of_all([yes, open_, no]) == no


def test_differences_are_paired_by_seed(parts):
    grid, summary, _ = parts
    # Seeds differ by far more than the two networks do: an unpaired interval would hold zero.
    rows = [row("a", s, 20.0 + 5 * s + 0.5) for s in range(3)] + [row("b", s, 20.0 + 5 * s) for s in range(4)]
    found = summary.difference(rows, grid.Comparison("a", "b", 1.0, 1.0))
    assert found == pytest.approx((0.5, 0.5, 0.5))
    assert summary.difference(rows[:1] + rows[3:], grid.Comparison("a", "b", 1.0, 1.0)) is None


def test_a_network_that_makes_clean_images_worse_decides_nothing(parts):
    grid, summary, _ = parts
    insight = grid.Insight("a beats b", "Table 0", (grid.Comparison("a", "b", 1.0, 1.0),))
    for clean, said in ((30.0, "reproduced"), (18.0, "not decidable at this scale")):
        rows = [row("a", s, clean) for s in range(3)]
        rows += [{**row("b", s, 10.0), "rain_psnr": 9.0} for s in range(3)]
        assert f"**{said}**" in summary.sentence(rows, insight)


def test_every_comparison_names_configurations_of_the_grid(parts):
    grid = parts[0]
    names = [c.name for c in grid.PAPER]
    assert len(names) == len(set(names))
    assert {n for i in grid.INSIGHTS for c in i.comparisons for n in (c.better, c.worse)} <= set(names)


def test_stages_have_about_as_many_parameters(parts):
    grid = parts[0]
    stages = [c.build().parameter_count for c in grid.PAPER if "stages" in c.name]
    base = next(c for c in grid.PAPER if c.name == "rcdnet").build().parameter_count
    assert all(abs(count / base - 1) < 0.1 for count in stages)


def test_a_repeated_command_goes_on_and_another_budget_is_refused(parts, tmp_path, monkeypatch):
    grid, _, ablations = parts
    tiny = {"stages": 1, "width": 2, "blocks": 1}
    two = (
        grid.Configuration("rcdnet", "rcdnet", tiny),
        grid.Configuration("rcdnet lambda 1", "rcdnet", tiny, adversary=1.0),
    )
    monkeypatch.setitem(ablations.GRIDS, "small", two)
    for name, value in {"SCENES": 2, "PHOTOS": 1, "HELD_OUT_SIDE": 32, "SIDE": 40, "ROUNDS": 1}.items():
        monkeypatch.setattr(ablations, name, value)
    out = tmp_path / "out.json"
    options = ["--seconds", "0.05", "--scenes", "1", "--seeds", "2", "--out", str(out)]
    first = CliRunner().invoke(ablations.main, options, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    whole = json.loads(out.read_text())
    names = [c.name for c in two]
    assert [(r["seed"], r["configuration"]) for r in whole["rows"]] == [(s, n) for s in range(2) for n in names]

    # Cut off after the first result: what is there stays, the rest is measured again.
    out.write_text(json.dumps({**whole, "rows": whole["rows"][:1]}))
    page, plot = tmp_path / "page.md", tmp_path / "plot.png"
    page.write_text("# Page\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    more = [*options, "--page", str(page), "--plot", str(plot)]
    assert CliRunner().invoke(ablations.main, more, catch_exceptions=False).exit_code == 0
    again = json.loads(out.read_text())
    assert again["rows"][:1] == whole["rows"][:1]
    timeless = [[{k: v for k, v in r.items() if k != "cpu_seconds"} for r in f["rows"]] for f in (whole, again)]
    assert timeless[0] == timeless[1]
    said = page.read_text()
    assert said.startswith("# Page\n<!-- results -->\n")
    assert said.endswith("<!-- end of results -->\nafter\n")
    assert "old" not in said
    assert "The adversarial loss costs clean quality" not in said  # lambda 4 was not trained
    assert said.count("| rcdnet") == 2
    assert plot.stat().st_size > 1000

    other = CliRunner().invoke(ablations.main, ["--seconds", "9", "--out", str(out)])
    assert other.exit_code == 1
    assert "choose another --out" in other.output
