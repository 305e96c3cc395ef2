"""Searches that go on from what gradients have found: from the strongest image on their own engine, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from deploy_robust import keyed
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.suite import transfer
from deploy_robust.data.pairs import Pair
from deploy_robust.engine import Capabilities
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.records import Case, Defect, Measurement
from deploy_robust.gate.starts import Starts
from deploy_robust.metrics.registry import METRICS
from deploy_robust.restorer import Restorer


@dataclass
class Recording:
    """An engine around a network that remembers every batch it was asked."""

    network: torch.nn.Module
    asked: list[torch.Tensor] = field(default_factory=list)
    capabilities: Capabilities = field(default_factory=lambda: Capabilities("test", "recording"))

    def run(self, batch: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(batch.clone())
        return self.network(batch)

    def close(self) -> None:
        pass


class Noise:
    """Pairs of noise around a middle grey."""

    name, paired = "noise", True
    identity: dict[str, Any] = {}  # noqa: RUF012  # of a protocol

    def __len__(self) -> int:
        return 2

    def ids(self) -> list[str]:
        return ["a", "b"]

    def __getitem__(self, index: int) -> Pair:
        image = keyed.generator(0, index).integers(60, 190, (32, 40, 3)).astype(np.uint8)
        return Pair(self.ids()[index], image, image, self.ids()[index])


def test_a_transfer_in_a_run_starts_from_the_corner_that_pgd_points_to() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1))
    network = network.eval().requires_grad_(False)
    engine = Recording(network)
    executor = LocalExecutor(
        pairs=Noise(),
        subjects={"engine": Restorer(engine), "source": Restorer(TorchEngine(network))},
        attacks={
            "pgd-lmse": PlannedAttack(pgd_lmse(), "source"),
            "transfer": PlannedAttack(transfer(queries=10), "engine"),
        },
        metrics={"psnr": METRICS["psnr"]},
        seed=0,
        deliveries=("8bit",),
        judged=frozenset(),  # one under test is asked one image at a time
    )
    crafted = executor.execute(tuple(Case(pair, "pgd-lmse", 2.0) for pair in ("a", "b")))
    starts = [crafted.images[m.input_image] for m in crafted.measurements if m.role == "engine"]
    engine.asked.clear()
    cases = [Case(pair, attack, 2.0) for pair in ("a", "b") for attack in ("pgd-lmse", "transfer")]
    executor.execute(tuple(cases))
    probed = next(i for i, batch in enumerate(engine.asked) if len(batch) == 4)  # two images in pairs of probes
    looked = engine.asked[probed - 1]
    for row, start, index in zip(looked, starts, (0, 1), strict=True):
        clean = Noise()[index].rainy.astype(int)
        moved = (row.permute(1, 2, 0).numpy() * 255).round().astype(int) - clean
        assert set(np.unique(moved)) == {-2, 2}
        ways = start.astype(int) - clean
        assert (moved[ways != 0] == 2 * np.sign(ways[ways != 0])).all()


def test_the_strongest_image_on_that_engine_is_taken_and_a_defect_is_the_strongest() -> None:
    def seen(case: Case, role: str, psnr: float, defect: Defect | None = None) -> Measurement:
        return Measurement(case, "s", role, "8bit", {} if defect else {"psnr": psnr}, defect=defect)

    cases = [Case("p", name, 1.0) for name in ("weak", "strong", "breaking")]
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    starts = Starts()
    left = {cases[0]: (20.0, 9.0), cases[1]: (15.0, 12.0)}
    for case, (one, other) in left.items():
        starts.take([case], images[[cases.index(case)]], {case: [seen(case, "e1", one), seen(case, "e2", other)]})
    search = [Case("p", "transfer", 1.0)]

    def number(role: str) -> float:
        found = starts.of(search, role, "cpu")
        return math.nan if found is None else float(found[0, 0, 0, 0])

    assert (number("e1"), number("e2")) == (1.0, 0.0)
    assert starts.of([*search, Case("q", "transfer", 1.0)], "e1", "cpu") is None
    assert starts.of([Case("p", "transfer", 2.0)], "e1", "cpu") is None
    assert starts.of(search, "e3", "cpu") is None
    starts.take(cases[2:], images[2:], {cases[2]: [seen(cases[2], "e1", 0.0, Defect("nan", "planted"))]})
    assert (number("e1"), number("e2")) == (2.0, 0.0)
