"""Whether gates keep their errors on outcomes of a real engine: images with known outcomes, drawn again and again.

The shipped network as INT8 on ONNX Runtime is searched on fresh scenes (corners, local credit). What each scene loses
is then known, and a limit in dB between two of them gives a failure rate that is known exactly. Gates draw scenes from
these, with replacement (a stream) or without (a set), and are judged as `verify` judges.

    python benchmarks/gates.py --out benchmarks/results/gates.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta

from deploy_robust.app.check import CheckRequest, check
from deploy_robust.app.export import export
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.app.verify import SUITE, Claim
from deploy_robust.engine import EngineOptions
from deploy_robust.gate.quantities import quantity
from deploy_robust.gate.records import Requirement
from deploy_robust.gate.store import SqliteStore
from deploy_robust.gate.table import Table
from deploy_robust.statistics.betting import mean_psnr_bets, psnr_loss
from deploy_robust.statistics.course import Test

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.05


def outcomes(folder: Path, scenes: int, size: int, queries: int, level: float) -> tuple[Floats, Floats]:
    """What each scene loses in dB, and its PSNR under attack: the suite on the INT8 engine, in one fixed run."""
    artefacts = export(
        folder / "engines",
        checkpoint="prenet-small",
        precisions=("int8",),
        pairs=PairsRequest(split="calibration", size=(80, 80)),
    )
    everything = Requirement("everything", "drop", "max", levels=(level,), at_most=100.0)
    policy = replace(Claim(levels=(level,), queries=queries).policy(), requirements=(everything,))
    result = check(
        CheckRequest(
            engine=EngineRequest(artefacts[0].path, EngineOptions(threads=1)),
            out=folder / "run",
            pairs=PairsRequest(limit=scenes, size=(size, size)),
            policy=policy,
            threads=1,
        ),
        on_progress=lambda done, planned: print(f"\r{done} of {planned} cases", end="", flush=True),
    )
    print()
    with SqliteStore.read(result.out) as store:
        table = Table(store.measurements())
    losses = quantity("drop").points(table, level, SUITE)
    attacked = quantity("attacked-psnr").points(table, level, SUITE)
    return np.array([p.value for p in losses.values()]), np.array([p.value for p in attacked.values()])


def gates(test: Test, truth: float, draw: Callable[[], Floats], count: int) -> dict[str, float]:
    """Shares of gates by how they ended and whether their limits hold the truth."""
    passed = failed = above = below = 0
    units = 0
    for _ in range(count):
        course = test.follow(draw().tolist())
        low, high = test.limits(course)
        passed += course.passed is True
        failed += course.passed is False
        above += high < truth - 1e-9
        below += low > truth + 1e-9
        units += course.units
    shares = {"pass": passed, "fail": failed, "upper limit misses": above, "lower limit misses": below}
    return {name: share / count for name, share in shares.items()} | {"mean units": units / count}


def peeking(failed: Floats, truth: float, rng: np.random.Generator, most: int, count: int) -> float:
    """Share of gates that pass by Clopper-Pearson, a limit of fixed samples, looked at after each unit from 10 on."""
    x = rng.choice(failed, (count, most))
    failures, units = np.cumsum(x, axis=1), np.arange(1, most + 1)
    upper = beta.ppf(1 - ALPHA, failures + 1, units - failures)
    return float(((upper < truth) & (units >= 10)).any(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--level", type=float, default=2.0)
    parser.add_argument("--gates", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drops, psnrs = outcomes(Path(folder), arguments.scenes, arguments.size, arguments.queries, arguments.level)
    rng, count, n = np.random.default_rng(0), arguments.gates, len(drops)
    rows: list[dict[str, Any]] = []
    for failing in (n // 20, n // 10, n // 5):
        failed = (drops > np.sort(drops)[n - failing - 1]).astype(float)
        rate = float(failed.mean())
        most = round(30 / rate)
        for ratio in (0.5, 1.0, 2.0):
            p0 = rate / ratio  # the truth is so many times p0
            test = Test(p0, rate=True)
            row = gates(test, rate, lambda drawn=failed, most=most: rng.choice(drawn, most), count)
            if ratio == 1.0:
                row["pass by peeking at Clopper-Pearson"] = peeking(failed, rate, rng, most, count)
            rows.append({"kind": "stream, rate", "rate": rate, "p0": p0, "most": most, **row})
        p0 = (failing - 1) / n  # one too many
        row = gates(Test(p0, rate=True, total=n), rate, lambda drawn=failed: rng.permutation(drawn), count)
        rows.append({"kind": "set, rate", "rate": rate, "p0": p0, "most": n, **row})
    losses = np.array([psnr_loss(value) for value in psnrs])
    mean = float(losses.mean())
    for lead in (0.0, 1.0):
        bound = mean_psnr_bets(40 * (1 - mean) - lead).m
        row = gates(Test(bound, rate=False), mean, lambda: rng.choice(losses, 300), count)
        rows.append(
            {"kind": f"stream, mean {lead:g} dB above its bound", "rate": mean, "p0": bound, "most": 300, **row}
        )
    for row in rows:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    if arguments.out:
        settings = {key: value for key, value in vars(arguments).items() if key != "out"}
        made = {"settings": settings, "machine": platform.machine(), "drops_db": [round(x, 3) for x in drops.tolist()]}
        arguments.out.write_text(json.dumps({**made, "gates": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
