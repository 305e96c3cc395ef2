"""Our searches by queries beside other libraries' Square, on one engine.

Needs ``DEPLOY_ROBUST_DATA``; peers that are not installed are named and left out (``pip install --no-deps torchattacks
adversarial-robustness-toolbox``). The engine is the official PReNet (Rain100H weights) in ONNX Runtime on one thread,
on the crops of ``gradient_free.py``, image by image, as the peers work. One meter stands between every search and the
engine: it counts the images asked and keeps the lowest PSNR among those inside the ball.

Time of a search's own, for each query, is measured apart, on an engine that answers its input: CPU time less that of
engine and meter, all searches in turn, median over rounds. ``overhead`` is its share of a call of 10 ms.

Peers attack classifiers. Through the adapters their loss is the error of the output image and no image ever counts as
fooled, so that they spend the whole budget; ART asks the engine three times a step, all of which count.

    python benchmarks/search_peers.py --crops 10 --size 32 --queries 300

Rows are written as they are measured, and kept when the command is repeated (``--again`` measures them anew).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from gradient_free import crops_of, networks, write
from torch import Tensor

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.registry import make_attack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Network = Callable[[Tensor], Tensor]
    Search = Callable[["Meter", int], None]

RESULTS = Path(__file__).with_name("results")
OURS = ("corners", "square", "spsa", "tiled", "local-credit", "suite")
LOSS = 6.0
"""Loss in dB that is waited for."""

CALL = 0.010
"""Seconds of an engine's call to which a search's own time is compared."""

TIMED, ROUNDS = 300, 5
"""Queries and rounds in which that time is taken."""


class SpentError(Exception):
    """The budget is spent: ends a peer that would go on."""


@dataclass(slots=True)
class Meter:
    """Stands before the engine, for one image.

    Attributes:
        engine: What is asked.
        x: The rainy crop, (1, 3, H, W).
        truth: Its ground truth.
        key: Its name.
        eps: Radius of the ball.
        budget: Images that may be asked.
        best: Lowest PSNR in the ball after each image asked, dB.
        inside: CPU seconds of engine and meter.
    """

    engine: Network
    x: Tensor
    truth: Tensor
    key: str
    eps: float
    budget: int
    best: list[float] = field(default_factory=list)
    inside: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        began = time.process_time()
        if len(self.best) >= self.budget:
            raise SpentError
        answers = self.engine(images)
        found = psnr(answers, self.truth)
        allowed = (images - self.x).abs().amax((1, 2, 3)) <= self.eps + 1e-6
        for value, ok in zip(found.tolist(), allowed.tolist(), strict=True):
            before = self.best[-1] if self.best else float("inf")
            self.best.append(min(before, value) if ok else before)
        self.inside += time.process_time() - began
        return answers


def ours(name: str) -> Search:
    """A search of this package."""

    def run(meter: Meter, seed: int) -> None:
        settings = {"draws": meter.budget} if name == "corners" else {"queries": meter.budget}
        eps = torch.full((1, 1, 1, 1), meter.eps)
        clean = meter.engine(meter.x)  # a check has asked for it before; it counts as no query
        make_attack(name, **settings).craft(Task(meter.x, eps, seed, ((meter.key,),), meter, clean, meter.truth))

    return run


def torchattacks(meter: Meter, seed: int) -> None:
    """Its loss is a method to override; the error is to grow, so that it is minimised with its sign turned."""
    from torchattacks.attacks.square import Square

    class OnError(Square):  # type: ignore[misc]
        def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
            loss = -(meter(x).clamp(0, 1) - meter.truth).square().mean((1, 2, 3))
            return torch.ones_like(loss), loss.clone()

    attack = OnError(torch.nn.Identity(), eps=meter.eps, n_queries=meter.budget, seed=seed)
    attack.device = torch.device("cpu")
    attack.init_hyperparam(meter.x)
    torch.manual_seed(seed)
    attack.attack_single_run(meter.x.clone(), torch.zeros(1, dtype=torch.int64))


def art(meter: Meter, seed: int) -> None:
    """It wants an estimator with a network inside, and takes a criterion and a loss: the output passes for scores."""
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    class Asked(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return meter(images).flatten(1)

    truth = meter.truth.flatten(1).numpy()
    shape = tuple(meter.x.shape[1:])
    estimator = PyTorchClassifier(
        Asked(), torch.nn.MSELoss(), shape, truth.shape[1], clip_values=(0.0, 1.0), device_type="cpu"
    )
    np.random.seed(seed)  # noqa: NPY002  # it draws from NumPy's global state
    attack = SquareAttack(
        estimator,
        adv_criterion=lambda scores, _: np.zeros(len(scores), dtype=bool),
        loss=lambda images, _: -((estimator.predict(images).clip(0, 1) - truth) ** 2).mean(1),
        max_iter=meter.budget,
        eps=meter.eps,
        verbose=False,
    )
    attack.generate(meter.x.numpy(), truth)


PEERS: dict[str, Search] = {"torchattacks Square": torchattacks, "ART Square": art}


@click.command()
@click.option("--crops", default=10, type=click.IntRange(1))
@click.option("--size", default=32, type=click.IntRange(16))
@click.option("--level", default=1.0, type=click.FloatRange(0, min_open=True), help="Epsilon, n/255.")
@click.option("--queries", default=300, type=click.IntRange(30))
@click.option("--seed", "seeds", default=(0, 1), multiple=True, type=int)
@click.option("--search", "names", default=(*OURS, *PEERS), multiple=True, type=click.Choice([*OURS, *PEERS]))
@click.option("--again", is_flag=True, help="Measure rows anew that are there already.")
@click.option("--out", default=RESULTS / "search-peers.json", type=click.Path(path_type=Path))
def main(
    crops: int,
    size: int,
    level: float,
    queries: int,
    seeds: tuple[int, ...],
    names: tuple[str, ...],
    again: bool,
    out: Path,
) -> None:
    """Prints and writes the table."""
    torch.set_num_threads(1)
    _, engine, weights = networks()
    x, truth, keys = crops_of(crops, size)
    searches = {name: PEERS[name] if name in PEERS else ours(name) for name in names}
    with torch.no_grad():
        clean = psnr(engine(x), truth)
        setting = {"weights": weights, "engine": "onnxruntime, CPU, 1 thread", "crops": crops, "size": size}
        setting |= {"epsilon": f"{level:g}/255", "queries": queries, "seeds": list(seeds)}
        setting |= {"clean": round(float(clean.mean()), 2)}
        meters = [
            partial(Meter, x=x[i : i + 1], truth=truth[i : i + 1], key=keys[i][0], eps=level / 255)
            for i in range(crops)
        ]
        own = own_times(searches, partial(meters[0], engine=lambda images: images.clone(), budget=TIMED))
        rows: list[dict[str, Any]] = []
        if out.is_file() and (before := json.loads(out.read_text()))["setting"] == setting and not again:
            rows = before["rows"]
        for name, seconds in own.items():
            kept = next((each for each in rows if each["search"] == name), None)
            found = kept or {"search": name, **row(run(searches[name], meters, engine, seeds, queries), clean, queries)}
            found |= {"own_ms_per_query": round(1000 * seconds, 3), "overhead": round(seconds / CALL, 4)}
            rows = [each for each in rows if each["search"] != name] + [found]
            write(out, {"setting": setting, "rows": rows})
            click.echo(json.dumps(found))


def psnr(answers: Tensor, truth: Tensor) -> Tensor:
    """PSNR of each image, dB, (N,)."""
    return -10 * (answers.clamp(0, 1) - truth).square().mean((1, 2, 3)).log10()


def own_times(searches: dict[str, Search], meter: Callable[[], Meter]) -> dict[str, float]:
    """CPU seconds of each search's own for one query, median of rounds in which all take their turn."""
    found: dict[str, list[float]] = {name: [] for name in searches}
    for seed, name in itertools.product(range(ROUNDS), searches):
        if name not in found:
            continue
        asked = meter()
        try:
            found[name].append(timed(searches[name], asked, seed) / len(asked.best))
        except ImportError as error:
            click.echo(f"{name}: left out, {error}", err=True)
            del found[name]
    return {name: statistics.median(each) for name, each in found.items()}


def run(
    search: Search, meters: Sequence[Callable[..., Meter]], engine: Network, seeds: tuple[int, ...], queries: int
) -> list[list[float]]:
    """Lowest PSNR after each query, for every seed and crop."""
    found = []
    for seed, meter in itertools.product(seeds, meters):
        asked = meter(engine=engine, budget=queries)
        with contextlib.suppress(SpentError):
            search(asked, seed)
        found.append(asked.best)
    return found


def timed(search: Search, meter: Meter, seed: int) -> float:
    """CPU seconds of the search's own."""
    began = time.process_time()
    with contextlib.suppress(SpentError):
        search(meter, seed)
    return time.process_time() - began - meter.inside


def row(found: list[list[float]], clean: Tensor, queries: int) -> dict[str, Any]:
    """How many queries a loss of `LOSS` took, in the median and how often it came at all, and PSNR at marks."""
    before = clean.tolist() * (len(found) // len(clean))
    lost = [
        next((n for n, psnr in enumerate(best, 1) if start - psnr >= LOSS), None)
        for start, best in zip(before, found, strict=True)
    ]
    reached = sorted(n for n in lost if n is not None)
    middle = len(lost) // 2
    return {
        "reached_6_db": f"{len(reached)} of {len(lost)}",
        "queries_to_6_db_median": reached[middle] if len(reached) > middle else None,
        **{
            f"psnr_at_{mark}": round(float(np.mean([best[min(mark, len(best)) - 1] for best in found])), 2)
            for mark in (30, 100, 300)
            if mark <= queries
        },
    }


if __name__ == "__main__":
    main()
