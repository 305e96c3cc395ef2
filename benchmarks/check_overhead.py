"""What a check costs beside its engine and gradient calls.

    OMP_NUM_THREADS=1 python benchmarks/check_overhead.py [--images 24] [--size 128] [--out FILE.json]

The default policy (PGD-20, noise and corners at four epsilons) on embedded scenes, with the shipped ``prenet-small`` as
source and its FP32 graph on ONNX Runtime as engine, through the real runner, process boundary and store. Inside the
process for batches every call of the two networks and every crafting of an attack is timed; what is left of the wall
time from the first batch to the last transaction is overhead: reading and drawing pairs, metrics, PNG, messages,
transactions. Crafting counts as gradient calls as a whole; what it costs above its floor is measured by ``pgd.py``.
Start-up (imports, loading, hashing) and the reports are timed beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy_robust.app.check import CheckRequest, check
from deploy_robust.app.export import export
from deploy_robust.app.networks import EngineRequest
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.engine import EngineOptions
from deploy_robust.gate import isolation, runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.app.execution import Execution
    from deploy_robust.gate.executor import LocalExecutor

GOAL = 0.03


class Clock:
    """Seconds inside, whatever is nested in it counted once."""

    def __init__(self) -> None:
        self.depth, self.seconds, self.calls = 0, 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.seconds += time.perf_counter() - started
                    self.calls += 1

        return call


@dataclass(frozen=True)
class TimedExecution:
    """An `Execution` whose networks and attacks are timed; the sum is written down after every batch."""

    inner: Execution
    file: Path

    def __call__(self, notify: Any = None) -> tuple[LocalExecutor, Any]:
        executor, facts = self.inner(notify)
        clock = Clock()
        for restorer in executor._subjects.values():
            restorer.engine.run = clock.timed(restorer.engine.run)
        executor._attacks = {
            name: replace(planned, attack=TimedAttack(planned.attack, clock))
            for name, planned in executor._attacks.items()
        }
        execute = executor.execute

        def and_note(batch: Any) -> Any:
            result = execute(batch)
            self.file.write_text(json.dumps([clock.seconds, clock.calls]))
            return result

        executor.execute = and_note  # type: ignore[method-assign]
        return executor, facts


class TimedAttack:
    def __init__(self, attack: Any, clock: Clock) -> None:
        self.access, self.craft = attack.access, clock.timed(attack.craft)


def measure(engine: Path, folder: Path, images: int, size: int) -> dict[str, Any]:
    marks: dict[str, float] = {}
    file = folder / "inside.json"
    original_run = runner.run

    def run(*args: Any, **kwargs: Any) -> bool:
        marks["first"] = time.perf_counter()
        ended = original_run(*args, **kwargs)
        marks["last"] = time.perf_counter()
        return ended

    original_executor = isolation.IsolatedExecutor
    isolation.IsolatedExecutor = lambda execution, **rest: original_executor(  # type: ignore[misc,assignment]
        TimedExecution(execution, file), **rest
    )
    runner.run = run
    try:
        begun = time.perf_counter()
        request = CheckRequest(
            EngineRequest(engine, EngineOptions(threads=1)),
            folder / "run",
            pairs=PairsRequest(limit=images, size=(size, size)),
            threads=1,
        )
        result = check(request)
        done = time.perf_counter()
    finally:
        runner.run, isolation.IsolatedExecutor = original_run, original_executor  # type: ignore[misc]
    inside, calls = json.loads(file.read_text())
    wall = marks["last"] - marks["first"]
    return {
        "images": images,
        "size": size,
        "verdict": result.verdict.status.value,
        "start_up_seconds": round(marks["first"] - begun, 2),
        "batches_seconds": round(wall, 2),
        "networks_and_attacks_seconds": round(inside, 2),
        "networks_and_attacks_calls": calls,
        "overhead": round(1 - inside / wall, 4),
        "reports_seconds": round(done - marks["last"], 2),
        "goal": GOAL,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (artefact,) = export(Path(name) / "engines", checkpoint="prenet-small", precisions=("fp32",))
        figures = measure(artefact.path, Path(name), arguments.images, arguments.size)
    for key, value in figures.items():
        print(f"{key:>30}  {value}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    import check_overhead  # under its own name, so that the process for batches can import it, too

    check_overhead.main()
