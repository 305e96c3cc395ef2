"""The alarm for masked gradients: a search by queries alone that beats the attack by gradients on the same engine.

A search sees less than an attack by gradients, so that it should find less. Where it finds more, the gradients led
astray: those of the source are not the engine's, or the engine's own are masked (Athalye, Carlini and Wagner, ICML
2018). Either way the white-box figures overstate robustness.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from deploy_robust.gate.quantities import ENGINE, HIGHEST_PSNR
from deploy_robust.report.wording import epsilon, interval, number, with_unit
from deploy_robust.statistics.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.records import Measurement

_BY_QUERIES = "queries"
"""The fact that every search by queries leaves."""

_BY_GRADIENTS = "dead_start"
"""The fact that every attack by gradients leaves."""

_ADAPTIVE = "-adaptive"
"""How the names of attacks end that were crafted on the engine's own graph."""


class Found(NamedTuple):
    """What the attacks of one kind left of the engine's output, on one image at one epsilon."""

    psnr: float
    attack: str


def masking(measurements: Sequence[Measurement]) -> Iterator[str]:
    """One sentence for each epsilon at which searches by queries beat the transferred attacks by gradients.

    Each image counts at its worst over the attacks of a kind: PSNR to the ground truth, or to the engine's own clean
    output where there is no truth. The alarm is raised where the whole 95 % interval of the difference, over
    independent scenes, lies on the side of the searches.
    """
    queries, gradients = (_attacks_with(fact, measurements) for fact in (_BY_QUERIES, _BY_GRADIENTS))
    own = {name for name in gradients if name.endswith(_ADAPTIVE)}
    scenes = {m.case.pair: m.scene for m in measurements}
    engine = [m for m in measurements if m.role == ENGINE and m.delivery == "8bit"]
    metric = "psnr" if any("psnr" in m.values and m.case.level for m in engine) else "drift"
    for level in sorted({m.case.level for m in engine if m.case.level}):
        at = [m for m in engine if m.case.level == level and metric in m.values]
        searched, transferred, adaptive = (_strongest(at, names, metric) for names in (queries, gradients - own, own))
        lead = _lead(searched, transferred, scenes)
        if lead is None or lead.low <= 0:
            continue
        over_own = _lead(searched, adaptive, scenes)
        if over_own is None:
            why = "the source is a weak surrogate of this engine, or the engine masks its gradients"
        elif over_own.low > 0:
            much = with_unit(number(over_own.mean), "dB")
            why = f"the engine masks its gradients, because the attack on its own graph loses by {much} as well"
        else:
            why = "the source is a weak surrogate of this engine: the attack on the engine's own graph finds as much"
        yield (
            f"masked gradients or a weak surrogate: at {epsilon(level)} {_names(searched)} by queries alone left "
            f"{_mean(searched, transferred)} and {_names(transferred)} by gradients {_mean(transferred, searched)}, "
            f"{with_unit(number(lead.mean), 'dB')} {interval(lead.low, lead.high)} more; {why}. "
            "Do not read the figures by gradients as robustness"
        )


def _attacks_with(fact: str, measurements: Sequence[Measurement]) -> set[str]:
    return {m.case.attack for m in measurements if fact in m.values}


def _strongest(measurements: Sequence[Measurement], attacks: set[str], metric: str) -> dict[str, Found]:
    """Pair to what the strongest of the attacks left."""
    found: dict[str, Found] = {}
    for m in measurements:
        if m.case.attack in attacks:
            here = Found(min(m.values[metric], HIGHEST_PSNR), m.case.attack)
            found[m.case.pair] = min(found.get(m.case.pair, here), here)
    return found


def _lead(strong: Mapping[str, Found], weak: Mapping[str, Found], scenes: Mapping[str, str]) -> Interval | None:
    """By how many dB the first leave less than the second, over scenes; None without a common pair."""
    by_scene: dict[str, list[float]] = defaultdict(list)
    for pair in strong.keys() & weak.keys():
        by_scene[scenes[pair]].append(weak[pair].psnr - strong[pair].psnr)
    means = [math.fsum(values) / len(values) for _, values in sorted(by_scene.items())]
    return mean_interval(means) if means else None


def _mean(found: Mapping[str, Found], other: Mapping[str, Found]) -> str:
    values = [found[pair].psnr for pair in sorted(found.keys() & other.keys())]
    return with_unit(number(math.fsum(values) / len(values)), "dB")


def _names(found: Mapping[str, Found]) -> str:
    return " and ".join(sorted({each.attack for each in found.values()}))
