"""What a report of 100 images costs: making it, its size, and opening it in headless Chromium.

    OMP_NUM_THREADS=1 python benchmarks/report.py [--out FILE.json]

The run is made first, by the real runner over 100 embedded scenes of 128 px, with one small filter as source and
another as engine: what the figures are does not matter here, how many they are does. Opening is wall time from the
navigation to the moment at which every picture is decoded, in a browser that runs already; median of five.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from deploy_robust.attacks.registry import make_attack
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.planners import Grid
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.records import CLEAN
from deploy_robust.gate.runner import run
from deploy_robust.gate.store import SqliteStore
from deploy_robust.metrics.registry import METRICS
from deploy_robust.report.formats import FORMATS
from deploy_robust.report.summary import summarise
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from deploy_robust.gate.records import Verdict

IMAGES = 100
ROUNDS = 5
GOAL_MEGABYTES = 10
GOAL_SECONDS = 2


class Soften(nn.Module):
    """A mix of the image and its mean over three pixels."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.share * F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False) + (1 - self.share) * x


def make_run(folder: Path) -> tuple[SqliteStore, Verdict]:
    policy = load_policy("default")
    pairs = SceneSource(IMAGES)
    attacks = {
        "pgd-lmse": PlannedAttack(make_attack("pgd-lmse", iterations=1), "source"),
        "uniform": PlannedAttack(make_attack("uniform")),
        "corners": PlannedAttack(make_attack("corners")),
    }
    executor = LocalExecutor(
        pairs=pairs,
        subjects={"engine": Restorer(TorchEngine(Soften(0.6))), "source": Restorer(TorchEngine(Soften(0.5)))},
        attacks=attacks,
        metrics={name: METRICS[name] for name in ("psnr", "ssim")},
        seed=0,
        references={"conversion": ("engine", "source")},
    )
    terms = Terms(tuple(attacks), policy.minimum_scenes)
    plan = {"engine": {"path": "benchmark.onnx"}, "policy": policy.to_dict(), "precision": "int8"}
    store = SqliteStore.create_or_resume(folder, plan)
    cases = ((CLEAN, 0.0), *((name, level) for name in attacks for level in policy.levels))
    run(Grid(tuple(pairs.ids()), cases), executor, store)
    return store, judge(policy.for_engine("int8", {"conversion"}), store.measurements(), terms)


def opening(page: Path, folder: Path) -> list[float]:
    """Seconds of each round; empty where there is no browser."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        return []
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[1] / "tests/report/browser.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    browser = module.Browser(executable, folder / "profile")
    seconds = []
    for _ in range(ROUNDS):
        browser.call("Page.navigate", url="about:blank")
        start = time.perf_counter()
        browser.open(page)
        browser.value("Promise.all([...document.images].map((image) => image.decode()))")
        seconds.append(time.perf_counter() - start)
    browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Write the figures as JSON.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"images": IMAGES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store, verdict = make_run(folder / "run")
        start = time.process_time()
        summary = summarise(store, verdict)
        figures["summarise_cpu_s"] = time.process_time() - start
        for name in FORMATS:
            start = time.process_time()
            content = FORMATS[name].render(summary, store)
            figures[f"{name}_cpu_s"], figures[f"{name}_mb"] = time.process_time() - start, len(content) / 1e6
            (folder / FORMATS[name].file_name).write_bytes(content)
        store.close()
        seconds = opening(folder / FORMATS["html"].file_name, folder)
    if seconds:
        figures |= {"open_median_s": statistics.median(seconds), "open_s": seconds}
    figures = {
        key: [round(v, 3) for v in value] if isinstance(value, list) else round(value, 3)
        for key, value in figures.items()
    }
    print(json.dumps(figures, indent=1))
    print(f"page: {figures['html_mb']:.2f} MB (goal: below {GOAL_MEGABYTES})")
    if seconds:
        print(f"opens in {figures['open_median_s']:.2f} s (goal: below {GOAL_SECONDS})")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
