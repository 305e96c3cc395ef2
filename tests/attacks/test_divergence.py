"""Attacks on the difference of two networks, through the executor: planted faults are found, sound twins are not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.attacks.divergence import divergence, divergence_queries
from deploy_robust.attacks.noise import uniform_noise
from deploy_robust.data.pairs import Pair
from deploy_robust.engine import Capabilities
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.quantities import QUANTITIES
from deploy_robust.gate.records import CLEAN, Case, Measurement, Requirement, Status
from deploy_robust.gate.table import Table
from deploy_robust.report.attacked_parity import attacked_parity
from deploy_robust.report.explain import Explainer
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Network:
    """A function as a network."""

    capabilities = Capabilities("test", "function", differentiable=True)

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function, self.shown = function, 0

    def run(self, batch: Tensor, out: Tensor | None = None) -> Tensor:
        self.shown += len(batch)
        return self.function(batch)

    def close(self) -> None:
        pass


class Greys:
    """Two grey images without ground truth."""

    name, paired, identity = "greys", False, {"source": "greys"}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Pair:
        grey = np.full((32, 32, 3), 120 + 3 * index, np.uint8)
        return Pair(id=f"g{index}", rainy=grey, clean=None, scene=f"g{index}")

    def ids(self) -> list[str]:
        return ["g0", "g1"]


KERNEL = torch.ones(3, 1, 3, 3) / 9


def smooth(x: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(x, KERNEL, padding=1, groups=3)


def clipped(x: Tensor) -> Tensor:
    """The same with a range that ends above all clean means and above what noise of mean zero reaches."""
    return smooth(x).clamp(max=0.505)


def measured(
    engine: Callable[[Tensor], Tensor], literal: Callable[[Tensor], Tensor] = smooth, only: str = ""
) -> tuple[list[Measurement], LocalExecutor]:
    subjects = {"engine": Restorer(Network(engine)), "source": Restorer(Network(smooth))}
    subjects["literal"] = Restorer(Network(literal))
    references = {"conversion": ("engine", "source"), "fidelity": ("engine", "literal")}
    attacks = {
        "uniform": PlannedAttack(uniform_noise()),
        "divergence": PlannedAttack(divergence(iterations=5), "source", minus="literal"),
        "divergence-queries": PlannedAttack(divergence_queries(queries=40), "engine", minus="source"),
    }
    attacks = {only: attacks[only]} if only else attacks
    executor = LocalExecutor(
        pairs=Greys(),
        subjects=subjects,
        attacks=attacks,
        metrics={},
        seed=0,
        references=references,
        attacked_references=references,
        clean_only=frozenset({"literal"}),
    )
    cases = tuple(
        Case(pair, attack, level)
        for pair in ("g0", "g1")
        for attack, level in ((CLEAN, 0.0), *((name, 8.0) for name in attacks))
    )
    return list(executor.execute(cases).measurements), executor


def parity(found: list[Measurement], figure: str, attack: str) -> float:
    at = [m for m in found if (m.role, m.case.attack, m.delivery) == ("engine", attack, "8bit")]
    return min(m.values[f"{figure}_db"] for m in at)


def lines(quantity: str) -> list[Requirement]:
    return [Requirement("attacked-parity", quantity, "min", (8.0,), at_least=90.0)]


def test_a_fault_of_the_runtime_is_found_by_queries_and_missed_by_clean_images() -> None:
    found, _ = measured(clipped)
    assert parity(found, "conversion", CLEAN) == math.inf
    assert parity(found, "conversion", "divergence-queries") < 60
    for quantity in ("attacked-conversion", "attacked-fidelity"):
        (outcome,) = judge(lines(quantity), found, Terms(("uniform",))).outcomes
        assert outcome.status is Status.FAIL
        assert outcome.worst is not None
        assert outcome.worst.attack == "divergence-queries"
        explained = Explainer({"precision": "fp32"}, found).explain(outcome)
        assert explained is not None
        assert explained.cause == "runtime"
        assert quantity == "attacked-fidelity" or "100%" in explained.sentences[1]


def test_a_fault_of_the_graph_is_found_by_gradients_and_is_the_graphs() -> None:
    found, _ = measured(clipped, literal=clipped)
    assert parity(found, "conversion", CLEAN) == math.inf
    assert parity(found, "conversion", "divergence") < parity(found, "conversion", "uniform")
    assert parity(found, "fidelity", "divergence") == math.inf
    (outcome,) = judge(lines("attacked-conversion"), found, Terms(("uniform",))).outcomes
    explained = Explainer({"precision": "fp32"}, found).explain(outcome)
    assert explained is not None
    assert explained.cause == "precision"
    (note,) = attacked_parity(Table(found))
    assert "to its source (clean identical; divergence" in note


def test_sound_twins_stay_together_and_the_attack_says_nothing_of_robustness() -> None:
    found, _ = measured(smooth)
    assert parity(found, "conversion", "divergence-queries") == math.inf
    (outcome,) = judge(lines("attacked-fidelity"), found, Terms(("uniform",))).outcomes
    assert outcome.status is Status.PASS
    facts = {name for m in found if m.case.attack.startswith("divergence") for name in m.values}
    # Facts that would make it a search, or an attack by gradients, to whoever looks for masked gradients.
    assert not facts & {"queries", "dead_start", "violated"}
    assert {m.role for m in found if m.case.attack != CLEAN} == {"engine", "source"}
    assert not [m for m in found if m.case.attack.startswith("divergence") and m.delivery == "float"]


def test_a_pair_whose_reference_has_no_answer_is_not_known() -> None:
    """The literal reading answers attacked images with NaN: there is nothing to compare with."""
    found, _ = measured(smooth, literal=lambda x: smooth(x) / (x.std() < 1e-3))
    points = QUANTITIES["attacked-fidelity"].points(Table(found), 8.0, ())
    assert points == {}
    assert len(QUANTITIES["attacked-conversion"].points(Table(found), 8.0, ())) == 2


def test_what_a_policy_cannot_measure_is_not_asked() -> None:
    from deploy_robust.app.terms import terms_of

    policy = load_policy("default")
    for references, expected in (((), set()), (("conversion",), {"attacked-conversion"})):
        terms, requirements = terms_of(policy, precision="fp32", references=references, paired=True)
        assert {r.name for r in requirements if r.name.startswith("attacked-")} == expected
        assert not {"divergence", "divergence-queries"} & set(terms.attacks)


def test_a_network_for_parity_alone_is_asked_about_noise_where_there_is_nothing_else() -> None:
    found, _ = measured(smooth)
    assert not [m for m in found if m.case.attack == "uniform" and "fidelity_db" in m.values]
    alone, _ = measured(smooth, only="uniform")
    assert parity(alone, "fidelity", "uniform") == math.inf
