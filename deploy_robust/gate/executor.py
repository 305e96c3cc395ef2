"""The executor runs one batch: attacks, engines and metrics; it knows neither store nor policy."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from deploy_robust.attacks.attack import Access
from deploy_robust.errors import EngineDefect
from deploy_robust.gate.answers import Answers
from deploy_robust.gate.crafting import Crafter
from deploy_robust.gate.downstream import Downstream
from deploy_robust.gate.images import codes_of, keep, keep_codes
from deploy_robust.gate.parity import compare, compare_rounded
from deploy_robust.gate.prepared import PreparedPairs
from deploy_robust.gate.probes import probed
from deploy_robust.gate.records import (
    BIAS,
    CLEAN,
    HIGH,
    INPUT,
    LOW,
    REPEAT,
    REPEAT_DB,
    ROWS,
    BatchResult,
    Case,
    Defect,
    Measurement,
)
from deploy_robust.gate.row_probe import ALONE, differences
from deploy_robust.gate.starts import Starts
from deploy_robust.metrics.psnr import psnr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.crafting import PlannedAttack
    from deploy_robust.gate.prepared import Prepared
    from deploy_robust.gate.probes import Probe
    from deploy_robust.gate.records import Batch, Delivery, Flight
    from deploy_robust.restorer import Restorer

    Metric = Callable[[Tensor, Tensor], Tensor]

K = TypeVar("K")

DRIFT = "drift"
"""PSNR in dB between an engine's attacked output and its own clean output: what the attack moved."""

_ULPS = 1e-6
"""Differences below this are the rounding of floats, far below a grey level."""


@dataclass(frozen=True, slots=True)
class _Attacked:
    """What one attack found for cases of one size.

    Attributes:
        cases: The cases.
        rows: The pair of each.
        images: (N, 3, H, W) float32 in [0, 1], as the attack left them.
        rounded: The same as a camera of 8 bits delivers them.
        seen: SHA-256 of each 8-bit image.
        facts: What the attack says of each row, (N,).
        against: Role of the network that it was crafted on; None for attacks that look at none.
        searched: Whether it was a search by queries.
        whole_codes: Whether rounding changes nothing.
        aimless: Whether the attack looks at no network, as noise, and others of the run do.
        asked_again: Pairs whose attacked images the judged engines are asked twice.
    """

    cases: tuple[Case, ...]
    rows: tuple[Prepared, ...]
    images: Tensor
    rounded: Tensor
    seen: tuple[str, ...]
    facts: Mapping[str, Tensor]
    against: str | None
    searched: bool
    whole_codes: bool
    aimless: bool
    asked_again: frozenset[str]


class LocalExecutor:
    """Executes batches in this process.

    Every network sees the same images. An attack is crafted once, on the network that its plan names, for all rows of a
    batch that share a size; the result goes through every network: through a judged engine as it is deployed (see
    `Answers`), through the others together.
    """

    def __init__(
        self,
        *,
        pairs: PairSource,
        subjects: Mapping[str, Restorer],
        attacks: Mapping[str, PlannedAttack],
        metrics: Mapping[str, Metric],
        seed: int,
        deliveries: tuple[Delivery, ...] = ("8bit", "float"),
        references: Mapping[str, tuple[str, str]] | None = None,
        attacked_references: Mapping[str, tuple[str, str]] | None = None,
        judged: frozenset[str] = frozenset({"engine"}),
        keep_outputs: bool = True,
        clean_only: frozenset[str] = frozenset(),
        recorded: Literal["8bit", "float32"] | None = None,
        rows: int | None = None,
        probes: Mapping[str, Probe] | None = None,
        downstream: Downstream | None = None,
        twins: Mapping[str, str] | None = None,
        notify: Callable[[Flight | None], None] | None = None,
    ) -> None:
        """Joins what is measured with what measures.

        Args:
            pairs: Where images come from.
            subjects: Networks by role.
            attacks: Planned attacks by the name that cases use.
            metrics: Functions of (output, ground truth), each (N, 3, H, W) to (N,), by the name under which they are
                stored.
            seed: The run's seed; all draws are keyed by it.
            deliveries: How attacked images reach the networks.
            references: Parity figure to (role, role of its reference): compared on clean images.
            attacked_references: The same, compared on the 8-bit attacked images.
            judged: Roles of the engines under test: asked twice, named to a supervisor with the images that they see.
            keep_outputs: Whether the 8-bit outputs of judged roles are kept for the report.
            clean_only: Roles that are not measured on attacked images: they serve as a reference of parity.
            recorded: How the judged engine's outputs were recorded, where they were: it is then not asked twice, and
                parity of 8-bit outputs is known within rounding only.
            rows: Images that are attacked and run together at most, for networks and images that fill the memory; None
                takes all of a batch that share a size.
            probes: What looks inside a network while it answers, by role; its values are stored with the 8-bit ones.
            downstream: Networks that look at outputs of 8-bit images, at the rain and at the ground truth; None: none.
            twins: Role of a judged engine to the role of its own graph read with gradients, for the neighbour attack.
            notify: Told of every call of a network before it begins, and None after it, so that a supervisor knows what
                was in flight when this process ended.
        """
        self._prepared = PreparedPairs(pairs)
        self._subjects = subjects
        self._answers = Answers(subjects, self._prepared, judged, notify)
        self._craft = Crafter(subjects, self._answers, seed)
        self._attacks = attacks
        self._searches = any(each.attack.access is not Access.NOTHING for each in attacks.values())
        self._metrics = metrics
        self._deliveries = deliveries
        self._references = references or {}
        self._attacked_references = attacked_references or {}
        self._judged = judged
        self._kept = judged if keep_outputs else frozenset()
        self._clean_only = clean_only
        self._recorded = recorded
        self._rows = rows
        self._probes = probes or {}
        self._downstream = Downstream() if downstream is None else downstream
        self._twins = twins or {}
        self._probed_pairs: frozenset[str] = frozenset()

    def execute(self, batch: Batch) -> BatchResult:
        """Measures every case of a batch."""
        images: dict[str, NDArray[np.uint8]] = {}
        found: dict[Case, list[Measurement]] = {}
        starts = Starts()
        self._probed_pairs = frozenset(case.pair for case in batch if case.attack == ROWS)
        for attack, cases in _grouped(batch, lambda case: case.attack):
            if attack == CLEAN:
                for case in cases:
                    found[case] = list(self._measure_clean(case, images))
                continue
            if attack == ROWS:
                for case in cases:
                    found[case] = list(self._measure_rows(case))
                continue
            for _, same_size in _grouped(cases, lambda case: self._prepared(case.pair).pair.size):
                rows = self._rows or len(same_size)
                for start in range(0, len(same_size), rows):
                    found |= self._measure_attacked(attack, same_size[start : start + rows], images, starts)
        return BatchResult(tuple(m for case in batch for m in found[case]), images)

    # -- clean images

    def _measure_clean(self, case: Case, images: dict[str, NDArray[np.uint8]]) -> Iterator[Measurement]:
        prepared = self._prepared(case.pair)
        seen = keep(prepared.rainy, images)
        blank = Measurement(case, prepared.pair.scene, INPUT, "8bit", input_image=seen)
        labels = prepared.pair.labels
        if prepared.truth is not None:
            values, evidence = self._downstream.look(prepared.rainy, labels, images)
            right, right_evidence = self._downstream.look_at_truth(prepared.truth, labels, images)
            values |= right | self._score(prepared.rainy, prepared.truth)
            yield replace(blank, values=values, output_image=seen, evidence=evidence | right_evidence)
        for role in self._subjects:
            output = self._answers.clean(prepared, role)
            inside = probed(self._probes.get(role), self._subjects[role], prepared.rainy)
            if isinstance(output, Defect):
                yield replace(blank, role=role, values=inside, defect=output)
                continue
            values = inside | ({} if prepared.truth is None else self._score(output, prepared.truth))
            for figure, (of, reference) in self._references.items():
                if of == role and not isinstance(other := self._answers.clean(prepared, reference), Defect):
                    values |= self._parity(figure, role, other.to(output.device), output)
            again = self._again(role, prepared.rainy, case, output)
            if isinstance(again, Defect):
                yield replace(blank, role=role, defect=again)
                continue
            values |= again
            kept = keep(output, images) if role in self._kept else ""
            looked, evidence = self._downstream.look(output, labels, images if kept else None)
            yield replace(blank, role=role, values=values | looked, output_image=kept, evidence=evidence)

    def _again(self, role: str, x: Tensor, case: Case, before: Tensor) -> dict[str, float] | Defect:
        """How far a second answer of a judged engine to an image (1, 3, H, W) is from an earlier one."""
        if role not in self._judged or self._recorded is not None:
            return {}
        (again,) = self._answers.to(role, x, [case], "8bit")
        if isinstance(again, Defect):
            return again
        (apart,) = compare(before, again)
        return {REPEAT: apart.max_abs, REPEAT_DB: apart.psnr_db}

    def _parity(self, figure: str, role: str, reference: Tensor, output: Tensor) -> dict[str, float]:
        if role not in self._judged or self._recorded != "8bit":
            (apart,) = compare(reference, output)
            return {f"{figure}_db": apart.psnr_db, f"{figure}_max_abs": apart.max_abs}
        (rounded,) = compare_rounded(reference, output)
        worst, best = rounded.at_worst, rounded.at_best
        return {
            f"{figure}_db": rounded.seen.psnr_db,
            f"{figure}_db{LOW}": worst.psnr_db,
            f"{figure}_db{HIGH}": best.psnr_db,
            f"{figure}_max_abs": rounded.seen.max_abs,
            f"{figure}_max_abs{LOW}": best.max_abs,
            f"{figure}_max_abs{HIGH}": worst.max_abs,
            BIAS: float((output.double() - reference.double().clamp(0, 1)).mean() * 255),
        }

    def _measure_rows(self, case: Case) -> Iterator[Measurement]:
        """Whether the judged engines answer the clean image alike beside others and alone, then and afterwards."""
        prepared = self._prepared(case.pair)
        for role in self._subjects:
            alone = self._answers.clean(prepared, role) if role in self._judged and self._recorded is None else None
            if alone is None or isinstance(alone, Defect):
                continue  # not under test, or its defect on the clean image is on record
            blank = Measurement(case, prepared.pair.scene, role, "8bit")
            found = self._answers.in_every_row(role, prepared, case, self._subjects.get(self._twins.get(role, "")))
            again = self._again(role, prepared.rainy, case, alone)
            if isinstance(found, Defect):
                yield replace(blank, defect=found)
            elif isinstance(again, Defect):
                yield replace(blank, defect=again)
            else:
                yield replace(blank, values={**(ALONE if found is None else differences(found, alone)), **again})

    # -- attacked images

    def _measure_attacked(
        self, name: str, cases: list[Case], images: dict[str, NDArray[np.uint8]], starts: Starts
    ) -> dict[Case, list[Measurement]]:
        """Crafts one attack for cases of one size, delivers what it found to every network and measures the answers."""
        planned = self._attacks[name]
        attacked, found = self._crafted(planned, cases, images, starts)
        if attacked is None:
            return found
        for delivery in self._deliveries:
            if delivery == "float" and attacked.whole_codes:
                continue  # a search that ends on 8-bit codes is measured once
            if delivery == "float" and planned.minus is not None:
                continue  # parity is what counts there, and it is of 8-bit images
            answered = self._answered(attacked, delivery)
            for role, restorer in self._subjects.items():
                if role in self._clean_only:
                    continue
                if delivery == "float" and restorer.io.dtype == "uint8":
                    continue  # an engine that takes integers sees no fractions
                for case, measurement in self._delivered(role, attacked, delivery, images, answered):
                    found[case].append(measurement)
        if planned.attack.access is Access.GRADIENTS and planned.minus is None:
            starts.take(list(attacked.cases), attacked.images, found)
        return found

    def _crafted(
        self, planned: PlannedAttack, cases: list[Case], images: dict[str, NDArray[np.uint8]], starts: Starts
    ) -> tuple[_Attacked | None, dict[Case, list[Measurement]]]:
        """What an attack found, and an empty list for each case; None and the defects where the network failed."""
        found: dict[Case, list[Measurement]] = {case: [] for case in cases}
        rows = [self._prepared(case.pair) for case in cases]
        against, networks = planned.against, planned.networks
        if networks:
            if not all(role in self._subjects for role in networks):
                return None, found  # it was left out, because it ends the process
            # An engine that fails on the clean image has nothing to be attacked; its defect is on record.
            usable = [
                i
                for i, row in enumerate(rows)
                if not any(isinstance(self._answers.clean(row, role), Defect) for role in networks)
            ]
            cases, rows = [cases[i] for i in usable], [rows[i] for i in usable]
            if not cases:
                return None, found
        try:
            crafted = self._craft(planned, cases, rows, starts)
        except EngineDefect as defect:
            for case, row in zip(cases, rows, strict=True):
                failed = Defect(defect.kind, str(defect))
                found[case] = [Measurement(case, row.pair.scene, against or "", "8bit", defect=failed)]
            return None, found
        exact = crafted.images.detach().cpu()
        codes = codes_of(exact)
        rounded = codes.to(torch.float32) / 255
        searched = planned.attack.access is Access.QUERIES
        attacked = _Attacked(
            cases=tuple(cases),
            rows=tuple(rows),
            images=exact,
            rounded=rounded,
            seen=tuple(keep_codes(code, images) for code in codes),
            facts={name: value.cpu() for name, value in crafted.facts.items()},
            against=against,
            searched=searched,
            whole_codes=searched and bool((rounded - exact).abs().max() < _ULPS),
            aimless=self._searches and planned.attack.access is Access.NOTHING,
            asked_again=self._probed_pairs,
        )
        return attacked, found

    def _answered(self, attacked: _Attacked, delivery: Delivery) -> Callable[[str], list[Tensor | Defect]]:
        """The answers of a network, by its role, to every attacked image; each is asked for once."""
        delivered = attacked.rounded if delivery == "8bit" else attacked.images

        @functools.cache
        def answers(role: str) -> list[Tensor | Defect]:
            return self._answers.to(role, delivered, list(attacked.cases), delivery)

        return answers

    def _delivered(
        self,
        role: str,
        attacked: _Attacked,
        delivery: Delivery,
        images: dict[str, NDArray[np.uint8]],
        answered: Callable[[str], list[Tensor | Defect]],
    ) -> Iterator[tuple[Case, Measurement]]:
        """Measures a network's answer to every attacked image."""
        delivered = attacked.rounded if delivery == "8bit" else attacked.images
        cases = list(attacked.cases)
        for i, output in enumerate(answered(role)):
            case, row, seen = cases[i], attacked.rows[i], attacked.seen[i]
            blank = Measurement(case, row.pair.scene, role, delivery, input_image=seen if delivery == "8bit" else "")
            probe = self._probes.get(role) if delivery == "8bit" else None
            inside = probed(probe, self._subjects[role], delivered[i : i + 1])
            if isinstance(output, Defect):
                yield case, replace(blank, values=inside, defect=output, input_image=seen)
                continue
            twice = case.pair in attacked.asked_again and delivery == "8bit"
            again = self._again(role, delivered[i : i + 1], case, output) if twice else {}
            if isinstance(again, Defect):
                yield case, replace(blank, values=inside, defect=again, input_image=seen)
                continue
            facts = attacked.facts if role == attacked.against and delivery == "8bit" else {}
            values = inside | again | self._attacked_values(role, row, output)
            values |= {name: float(value[i]) for name, value in facts.items()}
            kept, evidence = "", dict[str, Any]()
            if delivery == "8bit":
                kept = keep(output, images) if role in self._kept else ""
                looked, evidence = self._downstream.look(output, row.pair.labels, images if kept else None)
                values |= looked | self._attacked_parity(role, output, i, attacked, answered)
            yield case, replace(blank, values=values, output_image=kept, evidence=evidence)

    def _attacked_values(self, role: str, row: Prepared, output: Tensor) -> dict[str, float]:
        """The metrics of an answer to an attacked image."""
        values = {} if row.truth is None else self._score(output, row.truth)
        clean = self._answers.clean(row, role)
        if not isinstance(clean, Defect):
            values[DRIFT] = float(psnr(output, clean.to(output.device))[0])
        return values

    def _attacked_parity(
        self,
        role: str,
        output: Tensor,
        index: int,
        attacked: _Attacked,
        answered: Callable[[str], list[Tensor | Defect]],
    ) -> dict[str, float]:
        """How closely an answer to an attacked image follows its references; nothing where a reference has a defect."""
        values: dict[str, float] = {}
        for figure, (of, reference) in self._attacked_references.items():
            # A network that is there for parity alone is not asked about noise, which no search has aimed.
            if of != role or (attacked.aimless and reference in self._clean_only):
                continue
            if not isinstance(other := answered(reference)[index], Defect):
                values |= self._parity(figure, role, other.to(output.device), output)
        values.pop(BIAS, None)  # what it says, clean images say already
        return values

    def _score(self, output: Tensor, truth: Tensor) -> dict[str, float]:
        return {name: float(metric(output, truth.to(output.device))[0]) for name, metric in self._metrics.items()}


def _grouped(cases: Iterable[Case], key: Callable[[Case], K]) -> Iterator[tuple[K, list[Case]]]:
    """Cases by key, groups and members in the order of first appearance."""
    groups: dict[K, list[Case]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case)
    yield from groups.items()
