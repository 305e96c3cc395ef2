"""The run, in five parts: two planners, two engines and an attack without gradients through one unchanged runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch

from deploy_robust import keyed
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.attacks.local_credit import local_credit
from deploy_robust.attacks.noise import random_corners
from deploy_robust.data.pairs import Pair
from deploy_robust.engine import Capabilities
from deploy_robust.errors import EngineDefect, RunError
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.planners import Grid, StopWhen
from deploy_robust.gate.records import (
    BATCH_APART,
    BATCH_DB,
    CLEAN,
    INPUT,
    REPEAT,
    REPEAT_DB,
    ROWS,
    ROWS_APART,
    Case,
    Measurement,
    Requirement,
    Status,
)
from deploy_robust.gate.runner import run
from deploy_robust.gate.store import SqliteStore
from deploy_robust.metrics.registry import METRICS
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from deploy_robust.gate.records import Batch, BatchResult


@dataclass
class FunctionEngine:
    """An engine around any function of a native batch."""

    function: Callable[[torch.Tensor], torch.Tensor]
    calls: list[int] = field(default_factory=list)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(runtime="test", provider="function")

    def run(self, batch: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        self.calls.append(batch.shape[0])
        return self.function(batch)

    def close(self) -> None:
        pass


class Pairs:
    """Six small pairs: smooth images under dotted rain."""

    name = "test"
    paired = True
    identity: ClassVar[dict[str, str]] = {}

    def __len__(self) -> int:
        return 6

    def ids(self) -> list[str]:
        return [f"pair-{i}" for i in range(6)]

    def __getitem__(self, index: int) -> Pair:
        generator = keyed.generator(7, "pair", index)
        clean = np.kron(generator.integers(40, 200, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        rainy = np.where(generator.random((40, 48, 1)) < 0.1, 255, clean).astype(np.uint8)
        return Pair(f"pair-{index}", rainy, clean, scene=f"pair-{index}")


def darken(x: torch.Tensor) -> torch.Tensor:
    return x * 0.25


def executor(rows: int | None = None, **functions: Callable[[torch.Tensor], torch.Tensor]) -> LocalExecutor:
    return executor_of({role: Restorer(FunctionEngine(function)) for role, function in functions.items()}, rows=rows)


def executor_of(
    subjects: dict[str, Restorer], attacks: dict[str, PlannedAttack] | None = None, rows: int | None = None
) -> LocalExecutor:
    return LocalExecutor(
        pairs=Pairs(),
        subjects=subjects,
        attacks=attacks or {"corners": PlannedAttack(random_corners())},
        metrics={name: METRICS[name] for name in ("psnr", "ssim")},
        seed=3,
        rows=rows,
    )


GRID = Grid(tuple(Pairs().ids()), ((CLEAN, 0.0), ("corners", 2.0), ("corners", 4.0)), pairs_per_batch=2)
SEARCH = ((CLEAN, 0.0), ("local-credit", 2.0))
NO_HARM = Requirement("do-no-harm", "attacked-gain", statistic="min", levels=(2.0, 4.0), at_least=-1.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create_or_resume(tmp_path / "run", {"plan": "test"}) as opened:
        yield opened


def verdict_of(store: SqliteStore) -> Status:
    return judge([NO_HARM], store.measurements(), Terms(attacks=("corners",))).status


def test_a_grid_measures_two_engines_on_every_case(store: SqliteStore) -> None:
    assert run(GRID, executor(engine=torch.clone, other=darken), store)
    found = list(store.measurements())
    # 6 pairs: the input once, both engines clean; both engines at 2 levels by 2 deliveries
    assert len(found) == 6 * (3 + 2 * 2 * 2)
    assert {m.role for m in found} == {INPUT, "engine", "other"}
    assert all(m.defect is None for m in found)
    assert all(np.isfinite(value) for m in found for name, value in m.values.items() if name != REPEAT_DB)
    assert verdict_of(store) is Status.PASS
    identity = {m.case.pair: m.values["psnr"] for m in found if m.role == "engine" and m.case.attack == CLEAN}
    rain = {m.case.pair: m.values["psnr"] for m in found if m.role == INPUT}
    assert identity == rain
    for m in found:
        if m.input_image:
            assert store.image(m.input_image).shape == (40, 48, 3)


def several(**options: Any) -> list[Measurement]:
    """Two engines under test on one pair, clean, in rows, and under one attack that is crafted on each of them."""
    local = LocalExecutor(
        pairs=Pairs(),
        subjects={"a": Restorer(FunctionEngine(darken)), "b": Restorer(FunctionEngine(torch.clone))},
        attacks={f"corners on {role}": PlannedAttack(random_corners(draws=2), role, "corners") for role in "ab"},
        metrics={"psnr": METRICS["psnr"]},
        seed=3,
        deliveries=("8bit",),
        judged=frozenset({"a", "b"}),
        **options,
    )
    cases = (Case("pair-0"), Case("pair-0", ROWS), *(Case("pair-0", f"corners on {role}", 2.0) for role in "ab"))
    return list(local.execute(cases).measurements)


def test_every_engine_under_test_is_asked_twice_and_in_every_row() -> None:
    found = {(m.case.attack, m.role): m for m in several()}
    for role in "ab":
        assert found[CLEAN, role].values[REPEAT] == 0
        rows = {ROWS_APART: 0.0, BATCH_APART: 0.0, BATCH_DB: np.inf}
        assert found[ROWS, role].values == {**rows, REPEAT: 0.0, REPEAT_DB: np.inf}
        assert found[f"corners on {role}", role].values[REPEAT] == 0  # attacked images of probed pairs, too
        assert all(m.output_image for key, m in found.items() if key[1] == role and key[0] != ROWS)
    assert not any(m.output_image for m in several(keep_outputs=False) if m.role != INPUT)


def test_one_attack_on_several_networks_starts_from_the_same_draws() -> None:
    """The network that it looks at and the loss are then all that differs; two that choose alike see the same image."""
    seen = {m.case.attack: m.input_image for m in several() if m.role == "a"}
    assert seen["corners on a"] == seen["corners on b"]


def test_a_planner_that_stops_at_the_first_failure_goes_through_the_same_runner(store: SqliteStore) -> None:
    def broken(measurements: Sequence[Measurement]) -> bool:
        return any(m.role == "engine" and m.case.attack == CLEAN and m.values["psnr"] < 15 for m in measurements)

    assert run(StopWhen(GRID, broken), executor(engine=darken, other=torch.clone), store)
    assert len(store.finished()) == 1
    assert verdict_of(store) is Status.FAIL


def test_an_interrupted_run_goes_on_and_ends_with_the_same_measurements(tmp_path: Path, store: SqliteStore) -> None:
    run(GRID, executor(engine=darken), store)

    class Interrupted(LocalExecutor):
        batches = 0

        def execute(self, batch: Batch) -> BatchResult:
            self.batches += 1
            if self.batches > 1:
                raise KeyboardInterrupt
            return super().execute(batch)

    broken = executor(engine=darken)
    broken.__class__ = Interrupted
    with SqliteStore.create_or_resume(tmp_path / "resumed", {}) as resumed, pytest.raises(KeyboardInterrupt):
        run(GRID, broken, resumed)
    with SqliteStore.create_or_resume(tmp_path / "resumed", {}) as resumed:
        assert len(resumed.finished()) == 1
        run(GRID, executor(engine=darken), resumed)
        assert list(resumed.measurements()) == list(store.measurements())
        digests = {m.input_image for m in store.measurements() if m.input_image}
        assert all(resumed.png(digest) == store.png(digest) for digest in digests)


def test_a_run_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    SqliteStore.create_or_resume(tmp_path, {"seed": 1, "levels": [1]}).close()
    with pytest.raises(RunError, match="seed"):
        SqliteStore.create_or_resume(tmp_path, {"seed": 2, "levels": [1]})


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with SqliteStore.create_or_resume(tmp_path, {}), pytest.raises(RunError, match="another process"):
        SqliteStore.create_or_resume(tmp_path, {})
    SqliteStore.create_or_resume(tmp_path, {}).close()


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("nan", lambda x: x * float("nan")),
        ("inf", lambda x: x / 0),
        ("shape", lambda x: x[:, :, ::2, ::2]),
        ("dtype", lambda x: x > 0.5),
    ],
)
def test_an_engine_that_misbehaves_is_a_defect_and_a_fail(
    store: SqliteStore, kind: str, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    run(GRID, executor(engine=function), store)
    defects = [m.defect.kind for m in store.measurements() if m.defect]
    assert set(defects) == {kind}
    requirement = Requirement("engine-defect", "defects", statistic="max", at_most=0)
    assert judge([requirement], store.measurements(), Terms(attacks=("corners",))).status is Status.FAIL


def test_a_defect_in_one_row_leaves_the_others_measured(store: SqliteStore) -> None:
    def picky(x: torch.Tensor) -> torch.Tensor:
        if bool((x[:, 0, 0, 0] > 0.5).any()):
            raise EngineDefect("crash", "no bright corners please")
        return x.clone()

    run(GRID, executor(engine=picky), store)
    by_pair = {m.case.pair: m.defect for m in store.measurements() if m.role == "engine" and m.case.attack == CLEAN}
    assert {None} < {None if defect is None else defect.kind for defect in by_pair.values()}


def test_integer_engines_see_no_float_delivery(store: SqliteStore) -> None:
    io = IODescription(range=(0.0, 255.0), dtype="uint8", layout="NHWC")
    run(GRID, executor_of({"engine": Restorer(FunctionEngine(torch.clone), io)}), store)
    assert {m.delivery for m in store.measurements()} == {"8bit"}


def test_fewer_rows_at_a_time_measure_the_same(tmp_path: Path, store: SqliteStore) -> None:
    run(GRID, executor(engine=darken), store)
    with SqliteStore.create_or_resume(tmp_path / "by one", {}) as by_one:
        engine = FunctionEngine(darken)
        run(GRID, executor_of({"engine": Restorer(engine)}, rows=1), by_one)
        assert list(by_one.measurements()) == list(store.measurements())
    assert set(engine.calls) == {1}


def test_an_engine_whose_answers_vary_is_not_called_repeatable(store: SqliteStore) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + 1e-3 * torch.rand(x.shape, generator=generator)

    run(GRID, executor(engine=noisy, other=torch.clone), store)
    found = {m.role: m.values for m in store.measurements() if m.case.attack == CLEAN}
    assert 0 < found["engine"]["repeat_max_abs"] < 2e-3
    assert "repeat_max_abs" not in found["other"]


def test_an_engine_under_test_is_asked_as_it_is_deployed() -> None:
    """It answers worse in company, and is never asked in company: by no search, for no clean and no attacked image."""
    engine = FunctionEngine(lambda x: x * (0.25 if len(x) > 1 else 1.0))
    attacks = {
        "local-credit": PlannedAttack(local_credit(queries=10), "engine"),
        "corners": PlannedAttack(random_corners()),
    }
    inner = executor_of({"engine": Restorer(engine)}, attacks)
    which = (*SEARCH, ("corners", 2.0), ("corners", 4.0))
    cases = tuple(Case(pair, attack, level) for pair in Pairs().ids()[:2] for attack, level in which)
    found = inner.execute(cases).measurements
    assert set(engine.calls) == {1}
    attacked = [m for m in found if m.case.attack != CLEAN]
    clean = {m.case.pair: m.values["psnr"] for m in found if m.role == INPUT}
    # a search ends on codes, which are measured once
    assert not [m for m in attacked if m.case.attack == "local-credit" and m.delivery == "float"]
    assert all(m.values["psnr"] > clean[m.case.pair] - 3 for m in attacked)
    assert all(m.values["queries"] == 10 for m in attacked if m.case.attack == "local-credit")


@pytest.mark.parametrize("size", [2, 3])
def test_a_fixed_batch_is_filled_in_the_same_way_for_clean_and_attacked_images(size: int) -> None:
    engine = FunctionEngine(lambda x: x - x.mean(0, keepdim=True) + x)
    inner = executor_of({"engine": Restorer(engine, IODescription(batch=size))})
    cases = (Case("pair-0"), Case("pair-0", "corners", 2.0), Case("pair-0", "corners", 4.0))
    found = inner.execute(cases).measurements
    assert set(engine.calls) == {size}
    # beside copies of itself an image loses nothing to the mean of its batch
    rain = {m.case.attack: m.values["psnr"] for m in found if m.role == INPUT}
    assert next(m for m in found if m.role == "engine").values["psnr"] == pytest.approx(rain[CLEAN])
