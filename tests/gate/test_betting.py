"""Lines by betting through planner, runner, store and judge: order, resuming, continuing, and planted engines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from deploy_robust import keyed
from deploy_robust.app.planning import planner_of
from deploy_robust.app.registering import continued
from deploy_robust.attacks.local_credit import local_credit
from deploy_robust.data.pairs import Pair
from deploy_robust.engine import Capabilities
from deploy_robust.errors import EngineDefect, PolicyError, RunError
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import Policy, load_policy
from deploy_robust.gate.records import CLEAN, BatchResult, Case, Defect, Measurement, Requirement, Status
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.runner import run
from deploy_robust.gate.store import SqliteStore
from deploy_robust.gate.watch import Watch
from deploy_robust.metrics.registry import METRICS
from deploy_robust.report.summary import summarise
from deploy_robust.restorer import Restorer
from deploy_robust.statistics.course import Test

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.gate.records import Batch, Outcome

RATE = Requirement("rate", "drop", "failure_rate", levels=(1.0,), at_most=3.0, p0=0.05)
MEAN = Requirement("floor", "attacked-psnr", "mean_at_least", levels=(1.0,), at_least=20.0)
ATTACKS = ("local-credit",)


def policy(*lines: Requirement, **more: Any) -> Policy:
    return replace(
        load_policy("default"),
        scopes={},
        minimum_scenes=1,
        levels=(1.0,),
        attacks={"local-credit": {"queries": 10}},
        parity_pairs=2,
        requirements=lines or (RATE,),
        **more,
    )


def register(units: int, *lines: Requirement, population: Any = "stream", **more: Any) -> Registration:
    registration = Registration.of(
        policy(*lines, **more),
        population=population,
        source="test",
        identity={"source": "test"},
        order=[f"u{i}" for i in range(units)],
        seed=0,
    )
    assert registration is not None
    return registration


@dataclass
class Scripted:
    """An engine that loses so many dB on each unit; a NaN is a NaN under attack."""

    losses: list[float]
    executed: list[str] = field(default_factory=list)
    ends_after: int | None = None

    def execute(self, batch: Batch) -> BatchResult:
        if self.ends_after is not None and len(self.executed) >= self.ends_after:
            raise KeyboardInterrupt
        self.executed += [case.pair for case in batch if case.attack != CLEAN]
        return BatchResult(tuple(self._measure(case) for case in batch))

    def _measure(self, case: Case) -> Measurement:
        loss = self.losses[int(case.pair[1:])]
        if case.attack == CLEAN:
            return Measurement(case, case.pair, "engine", "8bit", {"psnr": 30.0})
        if np.isnan(loss):
            return Measurement(case, case.pair, "engine", "8bit", defect=Defect("nan", "not finite"))
        return Measurement(case, case.pair, "engine", "8bit", {"psnr": 30.0 - loss, "queries": 10.0})


def follow(
    folder: Path, engine: Scripted, registration: Registration, *lines: Requirement, size: int = 1
) -> tuple[Outcome, ...]:
    """Runs and judges a policy on scripted losses."""
    lines = lines or (RATE,)
    ids = registration.order
    planner = planner_of(policy(*lines), ATTACKS, ids, lines, size, registration=registration)
    with SqliteStore.create_or_resume(folder, {}) as store:
        assert run(planner, engine, store)
        return judge(lines, store.measurements(), Terms(ATTACKS, registration=registration)).outcomes


@pytest.mark.parametrize("size", [1, 8])
def test_it_stops_at_the_decision_and_nothing_counts_after_it(tmp_path: Path, size: int) -> None:
    engine = Scripted([0.0] * 68 + [9.0] * 40)
    (outcome,) = follow(tmp_path, engine, register(108), size=size)
    assert (outcome.status, outcome.pairs, outcome.value) == (Status.PASS, 68, 0.0)
    assert 68 <= len(engine.executed) <= 68 + size
    assert "with probability below 0.05" in outcome.claim
    assert "at most 0.05 error" in outcome.claim


def test_units_count_in_the_registered_order_whatever_the_order_of_measurement() -> None:
    rng = np.random.default_rng(0)
    losses = np.where(rng.random(60) < 0.1, 9.0, 0.0).tolist()
    registration, engine = register(60), Scripted(losses)
    cases = [Case(f"u{i}", attack, level) for i in range(60) for attack, level in ((CLEAN, 0.0), ("local-credit", 1.0))]
    expected = Test(0.05, rate=True).follow([float(loss > 3) for loss in losses])
    for order in (cases, [cases[i] for i in rng.permutation(len(cases))]):
        found = engine.execute(tuple(order)).measurements
        (outcome,) = judge([RATE], found, Terms(ATTACKS, registration=registration)).outcomes
        assert outcome.course == expected
        # A gap ends what counts: later units must not overtake one that is slow.
        (early,) = judge(
            [RATE], [m for m in found if m.case.pair != "u7"], Terms(ATTACKS, registration=registration)
        ).outcomes
        assert early.pairs == min(7, outcome.pairs)


def test_an_interrupted_run_holds_the_same_wealth_again(tmp_path: Path) -> None:
    losses = [9.0 if i in (3, 40) else 0.0 for i in range(200)]
    (whole,) = follow(tmp_path / "whole", Scripted(losses), register(200))
    with pytest.raises(KeyboardInterrupt):
        follow(tmp_path / "cut", Scripted(losses, ends_after=50), register(200))
    resumed = Scripted(losses)
    (outcome,) = follow(tmp_path / "cut", resumed, register(200))
    assert outcome == whole
    assert outcome.pairs == 179
    assert len(resumed.executed) == 179 - 50


def test_more_units_continue_the_wealth_and_anything_else_is_another_test(tmp_path: Path) -> None:
    losses = [0.0] * 100

    def plan(registration: Registration, seed: int = 0) -> dict[str, Any]:
        identity = {"source": "test", "count": len(registration.order)}
        pairs = {"name": "test", "count": len(registration.order), "identity": identity}
        return {"pairs": pairs, "seed": seed, "registration": registration.to_dict()}

    def go(registration: Registration) -> tuple[Outcome, Registration, Scripted]:
        engine = Scripted(losses)
        with SqliteStore.create_or_resume(tmp_path, plan(registration), continued=continued) as store:
            registration = Registration.from_dict(store.plan["registration"])
            planner = planner_of(policy(), ATTACKS, registration.order, (RATE,), 8, registration=registration)
            assert run(planner, engine, store)
            (outcome,) = judge((RATE,), store.measurements(), Terms(ATTACKS, registration=registration)).outcomes
        return outcome, registration, engine

    first, small, _ = go(register(21))
    assert (first.status, first.pairs) == (Status.INCONCLUSIVE, 21)
    second, large, engine = go(register(100))
    assert (second.status, second.pairs) == (Status.PASS, 68)
    assert engine.executed[0] == "u21"
    assert large.grown == ((21, small.digest),)
    assert go(register(100))[1:] == (large, Scripted(losses))  # nothing new, and nothing is measured again
    for other in (register(50), register(200, replace(RATE, p0=0.2)), register(200, attempt=1)):
        with pytest.raises(RunError, match="registration"):
            SqliteStore.create_or_resume(tmp_path, plan(other), continued=continued)
    with pytest.raises(RunError, match="seed"):
        SqliteStore.create_or_resume(tmp_path, plan(register(200), seed=1), continued=continued)
    with SqliteStore.read(tmp_path) as store:
        assert [len(p["registration"]["order"]) for p in store.earlier_plans] == [21]


def test_the_digest_holds_everything_that_was_fixed() -> None:
    plain = register(10)
    others = (
        register(11),
        register(10, replace(RATE, p0=0.1)),
        register(10, replace(RATE, confidence=0.9)),
        register(10, replace(RATE, at_most=2.0)),
        register(10, attempt=2),
        register(10, population="set"),
    )
    assert len({plain.digest, *(other.digest for other in others)}) == 7
    assert register(10) == plain == Registration.from_dict(plain.to_dict())


def test_attempts_share_alpha_and_lines_share_that_of_a_fail() -> None:
    assert register(9).alphas(RATE) == (0.05, 0.05)
    assert register(9, RATE, MEAN).alphas(RATE) == (0.05, 0.025)
    spent = [register(9, attempt=j).alphas(RATE)[0] for j in range(1, 60)]
    assert 0.049 < sum(spent) < 0.05
    assert spent[1] == pytest.approx(spent[0] / 4)


def test_all_lines_must_pass_and_one_that_fails_ends_the_run(tmp_path: Path) -> None:
    lines = (RATE, replace(MEAN, at_least=25.0))
    both = follow(tmp_path / "good", Scripted([0.0] * 200), register(200, *lines), *lines)
    assert [outcome.status for outcome in both] == [Status.PASS, Status.PASS]
    assert both[1].value == pytest.approx(30.0)
    assert both[1].low is not None
    assert 25 < both[1].low < 30
    engine = Scripted([2.9, 6.0] * 100)
    one = follow(tmp_path / "bad", engine, register(200, *lines), *lines)
    assert one[0].status is Status.FAIL
    assert len(engine.executed) < 30
    assert [case.pair for case in one[0].counterexamples] == [f"u{i}" for i in range(1, one[0].pairs, 2)]


def test_a_mean_with_an_interval_for_fixed_samples_forbids_an_early_stop(tmp_path: Path) -> None:
    lines = (RATE, Requirement("mean", "drop", levels=(1.0,), at_most=3.0))
    engine = Scripted([0.0] * 90)
    follow(tmp_path, engine, register(90, *lines), *lines)
    assert len(engine.executed) == 90


def test_nan_under_attack_is_a_failure_and_costs_no_other_unit(tmp_path: Path) -> None:
    losses = [0.0] * 200
    losses[5] = float("nan")
    (outcome,) = follow(tmp_path, Scripted(losses), register(200))
    assert (outcome.status, outcome.pairs) == (Status.PASS, 136)
    assert outcome.counterexamples == (Case("u5", "local-credit", 1.0),)
    mean = judge(
        [MEAN],
        Scripted(losses).execute(tuple(Case(f"u{i}", a, e) for i in range(9) for a, e in _BOTH)).measurements,
        Terms(ATTACKS, registration=register(9, MEAN)),
    ).outcomes[0]
    assert mean.course is not None
    assert mean.course.losses[5] == 1.0


_BOTH = ((CLEAN, 0.0), ("local-credit", 1.0))


def test_a_set_is_drawn_to_its_end_and_says_so(tmp_path: Path) -> None:
    line = replace(RATE, p0=0.25)
    (good,) = follow(tmp_path / "a", Scripted([9.0, 0, 0, 0, 0, 0, 0, 0]), register(8, line, population="set"), line)
    assert good.status is Status.PASS
    assert "at most 2 of the 8 images" in good.claim
    assert "says nothing about other images" in good.claim
    (bad,) = follow(tmp_path / "b", Scripted([9.0, 9, 9, 0, 0, 0, 0, 0]), register(8, line, population="set"), line)
    assert (bad.status, bad.pairs) == (Status.FAIL, 3)
    assert "this is exact" in bad.claim


def test_a_watch_tells_where_a_test_stands() -> None:
    watch = Watch((RATE,), ATTACKS, register(100))
    engine = Scripted([0.0] * 10 + [9.0])
    assert not watch.saw(engine.execute(tuple(Case(f"u{i}", a, e) for i in range(10) for a, e in _BOTH)).measurements)
    (test,) = watch.standings()
    assert (test.units, test.most, test.passed, watch.queries) == (10, 100, None, 100)
    assert test.log_fail is not None
    assert test.log_fail < 0 < test.log_pass < test.bar
    assert (test.low, test.high) == (0.0, pytest.approx(0.29, abs=0.02))


def test_lines_that_nobody_registered_cannot_be_decided() -> None:
    (outcome,) = judge([RATE], [], Terms(ATTACKS)).outcomes
    assert outcome.status is Status.INCONCLUSIVE
    assert "registered" in outcome.reason


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('statistic = "failure_rate"\nat_most = 3', "needs p0"),
        ('statistic = "failure_rate"\nat_most = 3\np0 = 1.5', "needs p0"),
        ("at_most = 3\np0 = 0.1", "belongs to the statistic failure_rate"),
        ("at_most = 3\ncap = 50", "belongs to the statistic mean_at_least"),
        ('statistic = "mean_at_least"\nat_least = 3', "never negative"),
        ('statistic = "failure-rate"\nat_most = 3\np0 = 0.1', "did you mean 'failure_rate'"),
    ],
)
def test_policies_are_told_what_is_wrong(tmp_path: Path, line: str, complaint: str) -> None:
    text = 'schema = 1\n[threat]\nlevels = [1]\n[attacks.corners]\n[[requirement]]\nname = "r"\nquantity = "drop"\n'
    (tmp_path / "p.toml").write_text(f"{text}levels = [1]\n{line}\n")
    with pytest.raises(PolicyError, match=complaint):
        load_policy(tmp_path / "p.toml")
    (tmp_path / "good.toml").write_text(f'{text}levels = [1]\nstatistic = "failure_rate"\nat_most = 3\np0 = 0.1\n')
    good = load_policy(tmp_path / "good.toml")
    assert Policy.from_dict(good.to_dict()) == good


# -- planted engines, searched for real


class Scenes:
    """Smooth pictures without rain."""

    name, paired = "scenes", True
    identity: dict[str, Any] = {}  # noqa: RUF012  # of a protocol

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def ids(self) -> list[str]:
        return [f"u{i}" for i in range(self.count)]

    def __getitem__(self, index: int) -> Pair:
        rng = keyed.generator(3, "unit", index)
        image = np.kron(rng.integers(60, 190, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        return Pair(f"u{index}", image, image, f"u{index}")


@dataclass
class FunctionEngine:
    """An engine around a function of a batch."""

    function: Callable[[torch.Tensor], torch.Tensor]
    capabilities: Capabilities = field(default_factory=lambda: Capabilities("test", "function"))

    def run(self, batch: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        return self.function(batch)

    def close(self) -> None:
        pass


def searched(
    folder: Path, function: Callable[[torch.Tensor], torch.Tensor], units: int, line: Requirement, queries: int = 20
) -> tuple[Outcome, SqliteStore]:
    """Runs and judges a line on an engine, searched by local credit."""
    executor = LocalExecutor(
        pairs=Scenes(units),
        subjects={"engine": Restorer(FunctionEngine(function))},
        attacks={"local-credit": PlannedAttack(local_credit(queries=queries), "engine")},
        metrics={"psnr": METRICS["psnr"]},
        seed=0,
        deliveries=("8bit",),
    )
    registration = register(units, line)
    planner = planner_of(policy(line), ATTACKS, registration.order, (line,), 2, registration=registration)
    store = SqliteStore.create_or_resume(folder, {})
    assert run(planner, executor, store)
    return judge((line,), store.measurements(), Terms(ATTACKS, registration=registration)).outcomes[0], store


def test_one_over_sensitive_spot_is_always_found(tmp_path: Path) -> None:
    """y = x but for one neighbourhood with a gain of 50: a violation on every unit."""

    def spot(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        patch = (..., slice(12, 18), slice(12, 18))
        y[patch] += 50 * (x[patch] - (x[patch] * 255 / 8).round() * 8 / 255)
        return y

    line = replace(RATE, quantity="drift", at_most=None, at_least=30.0, p0=0.5)
    outcome, store = searched(tmp_path, spot, 6, line)
    assert outcome.status is Status.FAIL
    assert outcome.value == 1.0
    with store:
        for case in outcome.counterexamples:
            (m,) = [m for m in store.measurements() if m.case == case]
            clean = Scenes(6)[int(case.pair[1:])].rainy.astype(int)
            assert np.abs(store.image(m.input_image).astype(int) - clean).max() == 1


def test_a_constant_engine_never_degrades(tmp_path: Path) -> None:
    outcome, store = searched(tmp_path, lambda x: torch.full_like(x, 0.5), 8, replace(RATE, at_most=0.01, p0=0.3), 10)
    with store:
        assert all(m.values["drift"] == np.inf for m in store.measurements() if m.case.attack != CLEAN)
    assert outcome.value == 0.0


def test_an_engine_that_breaks_under_attack_fails_every_unit(tmp_path: Path) -> None:
    def brittle(x: torch.Tensor) -> torch.Tensor:
        """Bears the blocks of the clean pictures, and nothing finer."""
        blocks = bool((x[..., 1:] == x[..., :-1]).float().mean() > 0.5)
        return x.clone() if blocks else x * float("nan")

    outcome, store = searched(tmp_path, brittle, 6, replace(RATE, p0=0.4), 10)
    with store:
        kinds = {m.defect.kind for m in store.measurements() if m.defect is not None}
    assert (outcome.status, outcome.value, kinds) == (Status.FAIL, 1.0, {"nan"})


def test_an_engine_that_crashes_loses_its_unit_and_no_wealth(tmp_path: Path) -> None:
    dark = float(Scenes(40)[4].rainy.mean()) / 255

    def crashing(x: torch.Tensor) -> torch.Tensor:
        if bool(((x.mean((1, 2, 3)) - dark).abs() < 1e-4).any()):
            raise EngineDefect("crash", "planted")
        return x.clone()

    line = replace(RATE, quantity="drift", at_most=None, at_least=30.0, p0=0.2)
    outcome, store = searched(tmp_path, crashing, 40, line, 10)
    with store:
        assert outcome.course is not None
        failed = [pair for pair, loss in zip(Scenes(40).ids(), outcome.course.losses, strict=False) if loss]
    assert (outcome.status, failed) == (Status.PASS, ["u4"])


def test_noisy_answers_are_reported_as_not_deterministic(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    _, store = searched(tmp_path, lambda x: x + 0.01 * torch.rand(x.shape, generator=generator), 2, RATE, 10)
    with store:
        verdict = judge((RATE,), store.measurements(), Terms(ATTACKS, registration=register(2)))
        notes = summarise(store, verdict).notes
    assert [note for note in notes if "not deterministic" in note and "2 of 2 clean images" in note]
