"""`benchmarks/twins.py`: its tables say what was measured, and a repeated command measures nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import twins
    import twins_table

    return twins, twins_table


def table_row(twin: str, image: str, clean: float, attacked: list[float]) -> dict[str, object]:
    scores = dict(zip("1248", attacked, strict=True))
    columns = {f"{p} {c}": scores for p in ("fp32", "int8") for c in ("8-bit", "float")}
    common = {"weights": "net", "twin": twin, "data": "scenes", "image": image, "attack": "pgd-20", "rain": 18.0}
    return {**common, "clean fp32": clean, "clean int8": clean, **columns}


def search_row(twin: str, image: str, value: float) -> dict[str, object]:
    common = {"weights": "net", "twin": twin, "data": "scenes", "image": image, "attack": "suite"}
    return {**common, "fp32 8-bit": {"4": value}}


def measurements() -> list[dict[str, object]]:
    found = []
    for image, shift in (("a", 0.0), ("b", 3.0), ("c", -2.0)):
        found += [
            table_row("plain", image, 30 + shift, [28 + shift, 25 + shift, 20 + shift, 15 + shift]),
            table_row("robust", image, 29 + shift, [29 + shift, 28 + shift, 25 + shift, 20 + shift]),
            search_row("plain", image, 22 + shift),
            search_row("robust", image, 26 + shift),
        ]
    return found


def test_rows_hold_means_and_paired_gains(parts):
    rows = parts[1].rows(measurements())
    assert len(rows) == 4 * 3  # engines times cameras; two twins and a gain
    plain, robust, gain = rows[:3]
    assert (plain["clean"], plain["mean"]) == (30.33, 22.33)
    assert (robust["clean"], robust["mean"]) == (29.33, 25.83)
    assert gain["gain_over"] == "plain"
    # Images differ by 5 dB, the gain is the same on all of them: only a paired interval has no width.
    assert gain["4/255"] == [5.0, 5.0, 5.0]
    assert gain["clean"] == [-1.0, -1.0, -1.0]


def test_the_share_compares_gains_on_the_same_images(parts):
    (row,) = parts[1].masking([m for m in measurements() if (m["attack"], m["image"]) != ("suite", "c")])
    assert (row["images"], row["gain"][0], row["gain_pgd_20"][0]) == (2, 4.0, 5.0)
    assert row["share"] == 0.8
    assert row["beyond_pgd_20"] == 1.0
    assert "80%" in parts[1].markdown(measurements())


def test_the_strongest_attack_on_each_image_counts(parts):
    strong = [
        {**search_row("plain", image, plain), "attack": "pgd-100 x 5"} for image, plain in (("a", 19.0), ("b", 24.0))
    ] + [
        {**search_row("robust", image, robust), "attack": "pgd-100 x 5"} for image, robust in (("a", 27.0), ("b", 23.0))
    ]
    row = parts[1].masking([*measurements(), *strong])[-1]
    # a: 19 by PGD-100 and 25 by PGD-20; b: 23 by PGD-20 and 23 by PGD-100. c was not attacked by all.
    assert (row["attack"], row["images"]) == (parts[1].STRONGEST, 2)
    assert (row["plain"], row["robust"], row["gain"][0]) == (21.0, 24.0, 3.0)
    assert row["share"] == 0.6


@pytest.mark.slow
def test_a_repeated_command_measures_only_what_is_missing(parts, tmp_path, monkeypatch):
    twins = parts[0]
    monkeypatch.delenv("DEPLOY_ROBUST_DATA", raising=False)
    monkeypatch.setattr(twins, "_twins", lambda name, _: [("plain", name)])  # an export of each costs many seconds
    out = tmp_path / "twins.json"
    options = ["--weights", "prenet-small", "--size", "32", "--photos", "0", "--no-masking", "--out", str(out)]
    assert CliRunner().invoke(twins.main, [*options, "--scenes", "1"], catch_exceptions=False).exit_code == 0
    first = json.loads(out.read_text())["measurements"]
    ended = CliRunner().invoke(twins.main, [*options, "--scenes", "2"], catch_exceptions=False)
    assert ended.exit_code == 0
    assert "real crops are not measured" in ended.output
    then = json.loads(out.read_text())["measurements"]
    assert [m["image"] for m in then] == ["scene-test-000000", "scene-test-000001"]
    assert all(m in then for m in first)
    assert then[0]["fp32 8-bit"]["8"] < then[0]["clean fp32"]
