"""Commands in processes of their own, made to be killed; a tiny network, and one uninterrupted run of everything."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust import keyed
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND = [sys.executable, "-c", "from deploy_robust.cli.main import main; main()"]
PATIENCE = 240.0
TRIES = 6

POLICY = """
schema = 1
name = "tiny"
[threat]
levels = [2]
[attacks.pgd-lmse]
iterations = 2
[attacks.uniform]
[parity]
minimum_pairs = 2
fp32 = { conversion = 90 }
[[requirement]]
name = "do-no-harm"
quantity = "attacked-gain"
levels = [2]
at_least = -60
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    began: float
    """Seconds since the epoch."""
    seconds: float


@dataclass(frozen=True)
class Bench:
    """A folder with a tiny network and a policy, and commands that run there."""

    folder: Path

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Begins a command as the leader of a process group."""
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, **options: Any) -> Ended:
        """Runs a command to its end."""
        began, started = time.time(), time.monotonic()
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return Ended(process.returncode, out, err, began, time.monotonic() - started)

    def run_and_kill(self, after: float, *arguments: str, writes: Sequence[str]) -> bool:
        """Runs a command afresh and kills it with all its children; False where it had always ended before.

        Moments are drawn from an uninterrupted run, which a busy machine may have made slower than this one: a command
        that was too quick begins again, and has two thirds of the time.

        Args:
            after: When to kill, in seconds.
            arguments: The command.
            writes: What it writes, by name in this folder; removed before it begins.
        """
        for _ in range(TRIES):
            for name in writes:
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            process = self.start(*arguments)
            try:
                process.communicate(timeout=after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=PATIENCE)
                return True
            after *= 2 / 3
        return False

    def check(self, out: str, *more: str) -> list[str]:
        """The command line of a check of eight tiny pairs."""
        return [
            *("check", "--engine", "tiny.safetensors", "--source", "tiny.safetensors", "--policy", "tiny.toml"),
            *("--limit", "8", "--size", "32", "--threads", "1", "--quiet", "--out", out, *more),
        ]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_checkpoint(folder / "tiny.safetensors", MODELS.create("prenet", "tiny"), {})
    (folder / "tiny.toml").write_text(POLICY)
    return Bench(folder)


@pytest.fixture(scope="session")
def checked(bench: Bench) -> Ended:
    """The uninterrupted check, in the folder ``whole``."""
    ended = bench.run(*bench.check("whole"))
    assert ended.code == 0, ended.err
    return ended


@pytest.fixture(scope="session")
def points() -> Callable[..., list[float]]:
    """Draws moments to kill at: (what, environment variable with their number, number in CI, windows in seconds).

    The windows take turns. The same durations give the same moments.
    """

    def draw(what: str, variable: str, usual: int, *windows: tuple[float, float]) -> list[float]:
        generator = keyed.generator(0, "kill", what)
        turns = itertools.islice(itertools.cycle(windows), int(os.environ.get(variable, usual)))
        return [float(generator.uniform(*window)) for window in turns]

    return draw
