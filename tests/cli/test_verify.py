"""`verify` on the shipped engines, and `plan`: verdicts, what may be said, kills, and gates on real outcomes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy_robust.app.check import CheckRequest
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.app.verify import Claim, request_of
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.engine import EngineOptions
from deploy_robust.errors import RunError, UsageError
from deploy_robust.gate.dump import canonical_dump
from deploy_robust.gate.quantities import quantity
from deploy_robust.gate.store import SqliteStore
from deploy_robust.gate.table import Table
from deploy_robust.statistics.course import Test

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUITE = ("corners", "local-credit")
OPEN = ("--units", "20", "--p0", "0.02", "--max-drop", "60", "--epsilon", "2/255")


def verify(engine: Path, out: str, *more: str) -> tuple[str, ...]:
    small = ("--size", "32", "--queries", "10", "--threads", "1", "--quiet")
    return ("verify", "--engine", str(engine), "--out", out, *small, *more)


def report(run: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((run / "report.json").read_text())
    return data


def dump(run: Path) -> str:
    with SqliteStore.read(run) as store:
        return canonical_dump(store)


def batches(run: Path) -> int:
    try:
        with SqliteStore.read(run) as store:
            return len(store.finished())
    except RunError:  # not there yet
        return 0


@pytest.fixture(scope="module")
def undecided(cli: Any, engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 units of the INT8 engine, which are too few for this rate."""
    folder = tmp_path_factory.mktemp("undecided")
    ended = cli.run(*verify(engines / "prenet-small-int8.onnx", "run", *OPEN), cwd=folder)
    assert ended.code == 3, (ended.out, ended.err)
    return folder / "run"


def test_a_pass_claims_no_more_than_its_procedure_allows(cli: Any, engines: Path, tmp_path: Path) -> None:
    ended = cli.run(*verify(engines / "prenet-small-fp32.onnx", "run", "--p0", "0.5", "--max-drop", "60"), cwd=tmp_path)
    assert ended.code == 0, (ended.out, ended.err)
    assert "PASS: all 8 requirements hold" in ended.out
    assert re.search(r"registered suite .*queries 10.* at epsilon 1/255 finds a violation of .*below 0\.5", ended.out)
    found = report(tmp_path / "run")
    (test,) = found["tests"]
    assert found["registered"]["most"] == 60
    assert found["registered"]["queries_spent"] == found["registered"]["units_spent"] * 10
    assert test["units"] < 10
    assert test["wealth_pass"][-1] >= test["bar_pass"]
    assert not (tmp_path / "run" / "counterexamples").exists()
    for name in ("report.html", "report.json", "summary.md", "junit.xml"):
        text = (tmp_path / "run" / name).read_text().lower()
        assert not re.search(r"certified|guarantee|worst[ -]case", text), name


def test_a_fail_comes_with_counterexamples_that_replay(cli: Any, engines: Path, tmp_path: Path) -> None:
    ended = cli.run(*verify(engines / "prenet-small-int8.onnx", "run", "--min-psnr", "90"), cwd=tmp_path)
    assert ended.code == 1, (ended.out, ended.err)
    assert "with probability above 0.05" in ended.out
    index = json.loads((tmp_path / "run" / "counterexamples" / "index.json").read_text())
    (test,) = report(tmp_path / "run")["tests"]
    assert len(index["found"]) == test["units"] == sum(test["losses"]) == 2
    scenes = SceneSource(600, size=(32, 32))
    with SqliteStore.read(tmp_path / "run") as store:
        for entry in index["found"]:
            assert (tmp_path / "run" / "counterexamples" / entry["file"]).is_file()
            rainy = scenes[scenes.ids().index(entry["case"]["pair"])].rainy.astype(int)
            assert np.abs(store.image(entry["image"]).astype(int) - rainy).max() == 1
            assert entry["value"] < 90
    case = index["found"][0]["case"]
    again = cli.run("replay", "run", case["pair"], case["attack"], "1", "--tolerance", "0", cwd=tmp_path)
    assert again.code == 0, (again.out, again.err)
    # What was not registered cannot be asked for afterwards.
    (tmp_path / "other.toml").write_text(
        "schema = 1\n[threat]\nlevels = [1]\n[attacks.corners]\n[attacks.local-credit]\nqueries = 10\n[[requirement]]\n"
        'name = "failure-rate"\nquantity = "attacked-psnr"\nstatistic = "failure_rate"\nlevels = [1]\nat_least = 10\n'
        "p0 = 0.5\n"
    )
    judged = cli.run("judge", "run", "--policy", "other.toml", cwd=tmp_path)
    assert "a line by betting is registered before the first query" in judged.complaint()


def test_kill_9_loses_no_wealth(cli: Any, engines: Path, undecided: Path, tmp_path: Path) -> None:
    command = verify(engines / "prenet-small-int8.onnx", "run", *OPEN)
    process = cli.start(*command, cwd=tmp_path, start_new_session=True)
    end = time.monotonic() + 120
    while batches(tmp_path / "run") < 18:  # 8 clean ones, and ten units
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "run" / "report.json").exists()
    ended = cli.run(*command, cwd=tmp_path)
    assert ended.code == 3, (ended.out, ended.err)
    assert dump(tmp_path / "run") == dump(undecided)
    assert report(tmp_path / "run")["tests"] == report(undecided)["tests"]


def test_a_folder_is_a_set_of_its_images(cli: Any, engines: Path, tmp_path: Path) -> None:
    pairs = {f"p{i}": (cli.picture(i), cli.picture(i, brightest=180)) for i in range(8)}
    cli.write_pairs(tmp_path / "pairs", pairs)
    engine = engines / "prenet-small-int8.onnx"
    ended = cli.run(*verify(engine, "run", "--data", "pairs", "--p0", "0.3", "--max-drop", "60"), cwd=tmp_path)
    assert "at most 2 of the 8 images of the set pairs" in ended.out
    found = report(tmp_path / "run")
    assert found["registered"]["population"] == "set"
    (row,) = [row for row in found["outcomes"] if row["requirement"] == "failure-rate"]
    assert row["status"] == "PASS"
    with SqliteStore.read(tmp_path / "run") as store:
        order = store.plan["registration"]["order"]
        measured = list(dict.fromkeys(m.case.pair for m in store.measurements()))
    assert order != sorted(order)
    assert measured == order


def test_an_engine_that_ends_its_process_fails_one_unit_and_no_other(
    cli: Any, package: dict[str, str], tmp_path: Path
) -> None:
    """Three pairs in a batch, one of which takes the process down as soon as it is attacked."""
    pairs = {f"p{i}": (cli.picture(i, brightest=120),) * 2 for i in range(5)} | {"bad": (cli.picture(9),) * 2}
    cli.write_pairs(tmp_path / "pairs", pairs)
    (tmp_path / "net.madeup").write_text(json.dumps([[201, 205, "abort"]]))
    command = verify(Path("net.madeup"), "run", "--data", "pairs", "--p0", "0.17", "--max-drop", "60", "--batch", "3")
    ended = cli.run(*command, cwd=tmp_path, environment=package)
    assert ended.code == 3, (ended.out, ended.err)  # nothing is known of its parity
    found = report(tmp_path / "run")
    (test,) = found["tests"]
    (row,) = [row for row in found["outcomes"] if row["requirement"] == "failure-rate"]
    assert row["status"] == "PASS"
    assert (test["units"], sum(test["losses"])) == (6, 1)
    (bad,) = test["counterexamples"]
    assert (bad["case"]["pair"], bad["defect"], bad["value"]) == ("bad", "crash", None)
    assert bad["image"]


def test_gates_on_outcomes_of_a_real_engine_cover(undecided: Path) -> None:
    """Images with known outcomes, drawn again and again: the rate among them is the truth."""
    with SqliteStore.read(undecided) as store:
        points = quantity("drop").points(Table(store.measurements()), 2.0, SUITE)
    drops = np.array([point.value for point in points.values()])
    assert len(drops) == 20
    failed = (drops > np.quantile(drops, 0.75)).astype(float)
    rate, rng, gates = float(failed.mean()), np.random.default_rng(0), 300
    margin = 3 * np.sqrt(0.05 * 0.95 / gates)

    def errors(test: Test, draw: Any) -> NDArray[np.float64]:
        """Shares of gates that passed, and whose limits missed the truth on either side."""
        found = []
        for _ in range(gates):
            course = test.follow(draw().tolist())
            low, high = test.limits(course)
            found.append((course.passed is True, low > rate + 1e-9, high < rate - 1e-9))
        shares: NDArray[np.float64] = np.mean(found, axis=0)
        return shares

    stream = errors(Test(rate, rate=True), lambda: rng.choice(failed, 60))
    whole = errors(Test(rate - 1e-3, rate=True, total=20), lambda: rng.permutation(failed))
    assert (stream <= 0.05 + margin).all()
    assert (whole <= 0.05 + margin).all()
    assert errors(Test(0.6, rate=True), lambda: rng.choice(failed, 60))[0] > 0.9  # and it does pass what is good


def test_a_plan_is_the_exact_programme(cli: Any, tmp_path: Path) -> None:
    ended = cli.run("plan", "--p0", "0.05", "--expect", "0.0125", "--units", "600", "--json", cwd=tmp_path)
    found = json.loads(ended.out)
    assert (found["passes"], found["fails"]) == (pytest.approx(0.998, abs=1e-3), pytest.approx(0.0, abs=1e-3))
    assert found["mean_units"] == pytest.approx(162.39, abs=0.01)
    assert found["boundary"] == [68, 136, 179, 219]
    assert found["unit_seconds"] is None
    cli.identity(tmp_path / "net.onnx")
    ended = cli.run("plan", "--engine", "net.onnx", "--queries", "20", "--size", "32", "--json", cwd=tmp_path)
    timed = json.loads(ended.out)
    assert timed["unit_seconds"] > 0
    assert (timed["queries_per_unit"], timed["most"], timed["mean_units"]) == (20, 600, 68)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("claim", "pairs", "complaint"),
    [
        (Claim(p0=2.0), PairsRequest(), "p0 lies between"),
        (Claim(alpha=0.0), PairsRequest(), "alpha lies between"),
        (Claim(suite=("local-credits",)), PairsRequest(), "did you mean 'local-credit'"),
        (Claim(), PairsRequest(what="rain", unpaired=True), "--min-drift"),
        (Claim(), PairsRequest(what="photos"), "finite set"),
    ],
)
def test_nonsense_is_refused(claim: Claim, pairs: PairsRequest, complaint: str, tmp_path: Path) -> None:
    request = CheckRequest(EngineRequest(Path("net.onnx"), EngineOptions()), tmp_path, pairs=pairs)
    with pytest.raises(UsageError, match=complaint):
        request_of(claim, request)


def test_one_property_and_whole_grey_levels(cli: Any, tmp_path: Path) -> None:
    two = cli.run("verify", "--engine", "e.onnx", "--max-drop", "3", "--min-psnr", "20", cwd=tmp_path)
    assert "one property" in two.complaint()
    fraction = cli.run("verify", "--engine", "e.onnx", "--epsilon", "0.5/255", cwd=tmp_path)
    assert "whole epsilon" in fraction.complaint()
    transfer = cli.run(
        "verify", "--engine", str(cli.identity(tmp_path / "net.onnx")), "--attack", "transfer", cwd=tmp_path
    )
    assert "put one like pgd-lmse before it" in transfer.complaint()
