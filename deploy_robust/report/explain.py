"""Why a requirement failed or stayed open: the same requirement, asked of every network on the way to the engine.

The judge sees one network, the one with the role ``engine``. So the source alone is judged by handing the judge the
source's measurements under that role; and what precision or runtime adds is the difference of two such readings on the
same pairs under the same attacked images, with an interval over independent scenes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.quantities import ATTACKED_CONVERSION, ATTACKED_FIDELITY, ENGINE, LITERAL, SOURCE, quantity
from deploy_robust.gate.records import DATASET, INPUT, Status
from deploy_robust.gate.table import Known, Table
from deploy_robust.report.advice import Advisor
from deploy_robust.report.betting import explain_betting
from deploy_robust.report.records import Explanation
from deploy_robust.report.wording import digits_of, epsilon, interval, number, with_unit
from deploy_robust.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy_robust.gate.records import Measurement, Outcome
    from deploy_robust.statistics.intervals import Interval

_MOST = 0.5
"""A share of the square difference that makes its side the cause."""

_MOST_SCENES = 10_000
"""Above so many scenes more measuring is no advice."""

_ATTACKED_PARITY = (ATTACKED_CONVERSION, ATTACKED_FIDELITY)

_PARITY = ("fidelity", "conversion", "conversion-max-abs")


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step on the way from source to engine does to a quantity, on the same pairs.

    Attributes:
        cause: ``precision`` or ``runtime``.
        name: The step in words.
        change: Later network minus earlier one, mean over scenes.
        worse: Whether the whole interval lies on the bad side.
    """

    cause: str
    name: str
    change: Interval
    worse: bool


class Explainer:
    """Explains the outcomes of one run."""

    def __init__(self, plan: Mapping[str, Any], measurements: Sequence[Measurement]) -> None:
        """Sorts the measurements by network.

        Args:
            plan: The run's plan; missing keys are taken as unknown.
            measurements: All of them.
        """
        self._plan = plan
        self._advisor = Advisor(plan)
        present = {m.role for m in measurements if m.case.level}
        self._chain = [role for role in (SOURCE, LITERAL, ENGINE) if role in present]
        self._seen_as_engine = {
            role: [
                replace(m, role=ENGINE if m.role == role else INPUT) for m in measurements if m.role in (role, INPUT)
            ]
            for role in self._chain
        }
        terms = plan.get("terms", {})
        known = Known(terms.get("access", {}), tuple(terms.get("partial", ())))
        self._tables = {role: Table(seen, known) for role, seen in self._seen_as_engine.items()}
        everything = Table(measurements, known)
        self._terms = Terms(tuple(terms.get("attacks") or everything.attacks()), known=known)
        self._everything = everything
        self._defects = [m for m in everything.defects if m.role == ENGINE]

    def explain(self, outcome: Outcome) -> Explanation | None:
        """Where an outcome comes from; None for a PASS."""
        if outcome.status is Status.PASS:
            return None
        what = outcome.requirement.quantity
        if outcome.value is None:
            if what == "search-lead":
                return self._unguarded(outcome)
            return Explanation("evidence", "nothing was measured for it", ("Nothing was measured for it.",))
        if outcome.requirement.by_betting:
            return explain_betting(outcome, self._plan, self._advisor.engine)
        if what == "defects":
            return self._defect()
        if what == "attack-lead":
            return self._weak_attack(outcome)
        if what == "search-lead":
            return self._masked(outcome)
        if outcome.status is Status.INCONCLUSIVE:
            return self._open(outcome)
        if what in _PARITY:
            return self._parity(outcome)
        if what in _ATTACKED_PARITY:
            return self._attacked_parity(outcome)
        if what == "transfer-gap":
            return self._transfer(outcome)
        return self._attribute(outcome)

    # -- a failed figure of the engine

    def _attribute(self, outcome: Outcome) -> Explanation:
        source = self._plan.get("source") or {}
        if SOURCE not in self._chain or ENGINE not in self._chain:
            text = "No source was measured beside the engine, so that the failure cannot be attributed."
            return Explanation("unknown", "without a source it cannot be attributed", (text,))
        if source.get("kind") == "surrogate":
            text = (
                f"The attack was crafted on a surrogate, {source.get('name', 'unnamed')}, with other weights than the "
                "engine's: comparing the two says nothing about precision or runtime."
            )
            short = "the source is a surrogate, so that it cannot be attributed"
            return Explanation("surrogate", short, (text,), *self._advisor.with_source())
        alone = self._source_alone(outcome)
        steps = [self._step(outcome, a, b) for a, b in pairwise(self._chain)]
        sentences = [self._describe_source(outcome, alone), *(_describe_step(outcome, step) for step in steps)]
        worst = min((s for s in steps if s.worse), key=lambda s: -abs(s.change.mean), default=None)
        shorts = []
        if alone.status is Status.FAIL:
            cause = SOURCE
            shorts.append(f"the source alone fails it ({_figure(outcome, alone)})")
        else:
            cause = worst.cause if worst else "unknown"
            held = "holds it" if alone.status is Status.PASS else "is undecided"
            shorts.append(f"the source alone {held} ({_figure(outcome, alone)})")
        if worst is not None:
            shorts.append(f"{worst.name} adds {_change(outcome, worst.change)}")
        command, purpose = self._advisor.against(cause, attacked=bool(outcome.level))
        return Explanation(cause, "; ".join(shorts), tuple(sentences), command, purpose)

    def _source_alone(self, outcome: Outcome) -> Outcome:
        """The same requirement at the same epsilon, judged on the source."""
        line = replace(outcome.requirement, levels=() if outcome.level is None else (outcome.level,))
        return judge([line], self._seen_as_engine[SOURCE], self._terms).outcomes[0]

    def _step(self, outcome: Outcome, before: str, after: str) -> _Step:
        line = outcome.requirement
        change = mean_interval(self._paired(outcome, before, after) or [0.0], line.confidence)
        rising_is_worse = line.at_least is None
        worse = change.low > 0 if rising_is_worse else change.high < 0
        cause, name = self._step_name(before, after)
        return _Step(cause, name, change, worse)

    def _paired(self, outcome: Outcome, before: str, after: str) -> list[float]:
        """Differences of the quantity on pairs that both networks were measured on, averaged within scenes."""
        points = quantity(outcome.requirement.quantity).points
        level = outcome.level or 0.0
        first, second = (points(self._tables[role], level, self._terms.attacks) for role in (before, after))
        by_scene: dict[str, list[float]] = defaultdict(list)
        for pair in first.keys() & second.keys():
            by_scene[self._tables[ENGINE].scenes[pair]].append(second[pair].value - first[pair].value)
        return [math.fsum(values) / len(values) for values in by_scene.values()]

    def _step_name(self, before: str, after: str) -> tuple[str, str]:
        precision = self._plan.get("precision", "unknown")
        capabilities = (self._plan.get("engine") or {}).get("capabilities") or {}
        runtime = capabilities.get("runtime", "the runtime")
        if after == LITERAL:
            return "precision", f"{precision} precision"
        if before == LITERAL or precision == "fp32":
            return "runtime", runtime
        return "precision", f"{precision} in {runtime}"

    def _describe_source(self, outcome: Outcome, alone: Outcome) -> str:
        verb = {
            Status.FAIL: "fails this too",
            Status.PASS: "holds this",
            Status.INCONCLUSIVE: "cannot be decided on this",
        }[alone.status]
        return f"The source alone {verb}: {_figure(outcome, alone)}."

    # -- the other kinds

    def _parity(self, outcome: Outcome) -> Explanation:
        line = outcome.requirement
        points = quantity(line.quantity).points(self._tables.get(ENGINE) or Table([]), 0.0, self._terms.attacks)
        low = -math.inf if line.at_least is None else line.at_least
        high = math.inf if line.at_most is None else line.at_most
        seen = [point.ends or (point.value, point.value) for point in points.values()]
        outside = sum(end[1] < low or end[0] > high for end in seen)
        other = "the literal reading of its own graph" if line.quantity == "fidelity" else "its source"
        count = f"on {outside} of {outcome.pairs} clean images" if points else "on clean images"
        sentence = (
            f"The engine differs from {other} {count} by more than the bound: what it shows under attack is not what "
            "the network would."
        )
        advice = self._advisor.against_broken_parity()
        return Explanation("parity", f"the engine already differs from {other} {count}", (sentence,), *advice)

    def _attacked_parity(self, outcome: Outcome) -> Explanation:
        """Which images it breaks on, and whose share of the difference is the runtime's and whose the graph's."""
        line, table, worst = outcome.requirement, self._everything, outcome.worst
        low = -math.inf if line.at_least is None else line.at_least
        points = quantity(line.quantity).points(table, outcome.level or 0.0, ())
        outside = sum((point.ends or (point.value,))[-1] < low for point in points.values())
        fidelity = line.quantity == ATTACKED_FIDELITY
        other = "the literal reading of its own graph" if fidelity else "its source"
        short = f"it differs from {other} on {outside} of {outcome.pairs} attacked images ({_figure(outcome, outcome)})"
        sentences = [f"The engine is damaged where no clean image shows it: {short}."]
        cause = "runtime" if fidelity else "precision"
        if worst is not None:
            conversion, literal = (
                table.get(f"{name}_db", ENGINE, worst.pair, worst.attack, worst.level)
                for name in ("conversion", "fidelity")
            )
            if not fidelity and conversion is not None and literal is not None:
                # Mean square differences: what runtime and graph differ by is a share of what runtime and source do.
                share = min(1.0, 10 ** ((conversion - literal) / 10))
                cause = "runtime" if share >= _MOST else "precision"
                who = "the runtime, against its own graph" if cause == "runtime" else "the graph, against its source"
                sentences.append(
                    f"On the worst image {max(share, 1 - share):.0%} of the square difference is made by {who}."
                )
        return Explanation(cause, short, tuple(sentences), *self._advisor.against(cause, attacked=False))

    def _transfer(self, outcome: Outcome) -> Explanation:
        figure = _figure(outcome, outcome)
        if (outcome.value or 0.0) > 0:
            sentence = (
                f"Under the same attacked images the engine keeps more than its source does ({figure}): the attack did "
                "not transfer, so that it has not shown the engine to be robust."
            )
            return Explanation(
                "transfer", f"the attack did not transfer ({figure})", (sentence,), *self._advisor.with_source()
            )
        cause, name = self._step_name(SOURCE, ENGINE)
        sentence = (
            f"Under the same attacked images the engine loses more than its source does ({figure}): {name} adds it."
        )
        return Explanation(
            cause,
            f"{name} adds a loss under attack ({figure})",
            (sentence,),
            *self._advisor.against(cause, attacked=True),
        )

    def _defect(self) -> Explanation:
        kinds = ", ".join(dict.fromkeys(m.defect.kind for m in self._defects if m.defect is not None))
        attacked = sum(m.case.level > 0 for m in self._defects)
        sentence = f"The engine misbehaved {len(self._defects)} times ({kinds}), {attacked} of them under attack."
        return Explanation(
            "defect",
            f"the engine misbehaved ({kinds})",
            (sentence,),
            *self._advisor.against_defects(),
        )

    def _weak_attack(self, outcome: Outcome) -> Explanation:
        figure = _figure(outcome, outcome)
        if (outcome.value or 0.0) > 0:
            sentence = (
                f"The attack beats noise on its own source on average ({figure}), but the interval over "
                f"{outcome.scenes} scenes still holds 0: figures that rest on it are not proved."
            )
            short = f"more scenes are needed to say that the attack beats noise on its own source ({figure})"
        else:
            sentence = (
                f"The attack moves its own source no further than noise does ({figure}): figures that rest on it "
                "prove nothing."
            )
            short = f"the attack does not beat noise on its own source ({figure})"
        return Explanation(
            "attack",
            short,
            (sentence,),
            *self._advisor.with_source(),
        )

    def _masked(self, outcome: Outcome) -> Explanation:
        """Which network hides its gradients, by what the attacks on each of them come to."""
        figure = _figure(outcome, outcome)
        if outcome.status is Status.INCONCLUSIVE and outcome.low is not None and outcome.low <= _bound(outcome):
            return self._open(outcome)
        known, level = self._terms.known, outcome.level or 0.0
        gradients = known.of("gradients", self._terms.attacks)
        own = tuple(name for name in gradients if name.endswith("-adaptive"))
        searches = known.of("queries", self._terms.attacks)
        reading = quantity(outcome.requirement.quantity).points
        over_own = [p.value for p in reading(self._everything, level, (*searches, *own)).values()] if own else []
        if not own:
            hides = "the source is a weak surrogate of this engine, or the engine masks its gradients"
        elif over_own and math.fsum(over_own) / len(over_own) <= _bound(outcome):
            hides = "the source is a weak surrogate of this engine: the attack on its own graph finds as much"
        else:
            hides = "the engine masks its gradients: the attack on its own graph loses as well"
        sentence = (
            f"Searches by queries alone leave less of the output than every attack by gradients ({figure}); {hides}. "
            "Do not read the figures by gradients as robustness."
        )
        return Explanation("masked", f"{hides} ({figure})", (sentence,), *self._advisor.with_source())

    def _unguarded(self, outcome: Outcome) -> Explanation:
        """Why nothing says whether gradients can be trusted."""
        if not self._terms.known.of("queries", self._terms.attacks):
            what = "no search by queries was run on this engine"
        elif not self._terms.known.of("gradients", self._terms.attacks):
            what = "no attack by gradients was run"
        else:
            what = f"gradients were dead or missing on every image that a search saw at {epsilon(outcome.level or 0.0)}"
        text = f"{what[0].upper()}{what[1:]}: whether the engine masks its gradients is unknown."
        return Explanation("evidence", what, (text,), *self._advisor.with_source())

    def _open(self, outcome: Outcome) -> Explanation:
        line = outcome.requirement
        if line.statistic not in ("mean", DATASET) and outcome.low != outcome.high:
            text = (
                "The outputs were recorded with 8 bits: rounding them may hide a figure anywhere in the interval, and "
                "the bound lies inside it."
            )
            return Explanation(
                "evidence", "outputs of 8 bits cannot decide it", (text,), *self._advisor.float_outputs()
            )
        needed = line.minimum_pairs if outcome.pairs < line.minimum_pairs else _scenes_needed(outcome)
        if needed is None:
            text = "The mean lies so near to its bound that more scenes would hardly decide it."
            return Explanation("evidence", "the mean lies on the bound", (text,))
        what = "pairs are needed" if outcome.pairs < line.minimum_pairs else "scenes would decide it at the same spread"
        text = f"{outcome.scenes} scenes were measured; about {needed} {what}."
        return Explanation("evidence", f"about {needed} {what}", (text,), *self._advisor.more_scenes(needed))


def _bound(outcome: Outcome) -> float:
    line = outcome.requirement
    return math.inf if line.at_most is None else line.at_most


def _scenes_needed(outcome: Outcome) -> int | None:
    """Scenes at which the interval would clear the bound, were mean and spread to stay; None where too many."""
    if outcome.value is None or outcome.low is None or outcome.high is None:
        return None
    if not math.isfinite(outcome.high - outcome.low):
        return 2 * max(outcome.scenes, 1)  # one scene shows no spread; two show a first one
    line = outcome.requirement
    limits = [limit for limit in (line.at_least, line.at_most) if limit is not None]
    crossed = [limit for limit in limits if outcome.low <= limit <= outcome.high]
    distance = min((abs(outcome.value - limit) for limit in crossed), default=0.0)
    half = (outcome.high - outcome.low) / 2
    if not distance or (ratio := half / distance) ** 2 * outcome.scenes > _MOST_SCENES:
        return None
    return max(outcome.scenes + 1, math.ceil(outcome.scenes * ratio**2))


def _describe_step(outcome: Outcome, step: _Step) -> str:
    text = f"From source to engine, {step.name} changes it by {_change(outcome, step.change)} on the same images"
    if step.worse:
        return f"{text}: worse."
    return f"{text}: better." if step.change.low * step.change.high > 0 else f"{text}: no difference that shows."


def _change(outcome: Outcome, change: Interval) -> str:
    unit = quantity(outcome.requirement.quantity).unit
    digits = digits_of(unit)
    return f"{with_unit(number(change.mean, digits, signed=True), unit)} {_ends(change.low, change.high, digits)}"


def _figure(outcome: Outcome, of: Outcome) -> str:
    unit = quantity(outcome.requirement.quantity).unit
    digits = digits_of(unit)
    text = with_unit(number(of.value, digits), unit)
    if of.requirement.statistic in ("mean", DATASET) and of.low is not None and of.high is not None:
        text += f" {_ends(of.low, of.high, digits)}"
    return text + (f" at {epsilon(outcome.level)}" if outcome.level else "")


def _ends(low: float, high: float, digits: int) -> str:
    return interval(low if math.isfinite(low) else None, high if math.isfinite(high) else None, digits)
