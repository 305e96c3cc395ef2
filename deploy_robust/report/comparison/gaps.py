"""Engines under attack: means, gaps to the source, and how far two engines agree, from the table of measurements."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from deploy_robust.gate.quantities import HIGHEST_PSNR
from deploy_robust.gate.records import INPUT
from deploy_robust.report.comparison.records import WORST, AgreementRow, Cell, Estimate
from deploy_robust.statistics.agreement import joint, kendall_tau
from deploy_robust.statistics.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.table import Table
    from deploy_robust.report.comparison.records import Column

Values = dict[str, float]
"""Pair id to a number; pairs that were not measured are missing."""


class Attacked:
    """The attacked measurements of a comparison, by engine, attack and epsilon."""

    def __init__(
        self, table: Table, columns: Sequence[Column], metric: str, *, confidence: float, resamples: int, seed: int
    ) -> None:
        """Reads a table.

        Args:
            table: All measurements.
            columns: The attacks.
            metric: What is compared: ``psnr`` or ``drift``.
            confidence: Of the intervals.
            resamples: Of the bootstrap.
            seed: Of the bootstrap.
        """
        self._table, self._columns, self._metric = table, tuple(columns), metric
        self._interval = confidence, resamples, seed
        self._seen: dict[tuple[str, str, float], Values] = {}
        self._defects: dict[tuple[str, str, float], int] = defaultdict(int)
        for m in table.defects:
            self._defects[m.role, m.case.attack, m.case.level] += 1

    def values(self, name: str, column: str, level: float) -> Values:
        """The metric of a network under an attack, image by image; identical images count as 100 dB."""
        key = name, column, level
        if key not in self._seen:
            self._seen[key] = self._worst(name, level) if column == WORST else self._read(name, column, level)
        return self._seen[key]

    def _worst(self, name: str, level: float) -> Values:
        """Each image at its worst; only those that every attack was measured on."""
        each = [self.values(name, column.name, level) for column in self._columns]
        common = set(each[0]).intersection(*each[1:]) if each else set()
        return {pair: min(values[pair] for values in each) for pair in self._table.scenes if pair in common}

    def _read(self, name: str, column: str, level: float) -> Values:
        found = {p: self._table.get(self._metric, name, p, column, level) for p in self._table.scenes}
        return {pair: min(value, HIGHEST_PSNR) for pair, value in found.items() if value is not None}

    def clean(self, name: str) -> Values:
        """PSNR of the clean output, image by image; empty without ground truth."""
        found = {pair: self._table.get("psnr", name, pair) for pair in self._table.scenes}
        return {pair: min(value, HIGHEST_PSNR) for pair, value in found.items() if value is not None}

    def estimate(self, differences: Values) -> Estimate:
        """The mean over independent scenes, each the mean of its images, with its bootstrap interval."""
        by_scene: dict[str, list[float]] = defaultdict(list)
        for pair, value in differences.items():
            by_scene[self._table.scenes[pair]].append(value)
        confidence, resamples, seed = self._interval
        means = [sum(group) / len(group) for group in by_scene.values()]
        return Estimate.of(bootstrap_interval(means, confidence, resamples=resamples, seed=seed))

    def cells(self, names: Sequence[str], levels: Sequence[float], void: Mapping[str, str]) -> Iterator[Cell]:
        """Every network under every attack at every epsilon; what was not measured is left out."""
        for level in levels:
            for name in names:
                for column in self._columns:
                    values = self.values(name, column.name, level)
                    if values:
                        yield self._cell(name, column, level, values, void.get(name, ""))

    def _cell(self, name: str, column: Column, level: float, values: Values, void: str) -> Cell:
        defects = self._defects[name, column.name, level]
        if defects and not void:
            void = f"answers that were no image: {defects}"
        gap = None
        if column.source is not None and column.source != name:
            source = self.values(column.source, column.name, level)
            apart = {pair: value - source[pair] for pair, value in values.items() if pair in source}
            gap = self.estimate(apart) if apart else None
        clean = self.clean(name)
        drops = [clean[pair] - value for pair, value in values.items() if pair in clean]
        return Cell(
            engine=name,
            column=column.name,
            level=level,
            images=len(values),
            mean=_mean(list(values.values())),
            drop=_mean(drops) if drops and self._metric == "psnr" else None,
            gap=gap,
            void=void,
        )

    def agreement(
        self, names: Sequence[str], levels: Sequence[float], void: Mapping[str, str]
    ) -> Iterator[AgreementRow]:
        """Every pair of engines under every attack, and under the worst of all."""
        for level in levels:
            for i, a in enumerate(names):
                for b in names[i + 1 :]:
                    for column in (*(c.name for c in self._columns), WORST):
                        row = self._agreement(a, b, column, level, void)
                        if row is not None:
                            yield row

    def _agreement(self, a: str, b: str, column: str, level: float, void: Mapping[str, str]) -> AgreementRow | None:
        of_a, of_b = self.values(a, column, level), self.values(b, column, level)
        common = [pair for pair in of_a if pair in of_b]
        if not common:
            return None
        rain = {pair: self._table.get("psnr", INPUT, pair) for pair in common}
        counted = None
        if self._metric == "psnr" and all(value is not None for value in rain.values()):
            broken = [[of[pair] < (rain[pair] or 0.0) for pair in common] for of in (of_a, of_b)]
            counted = joint(*broken)
        struck = [f"{name}: {void[name]}" for name in (a, b) if void.get(name)]
        return AgreementRow(
            a=a,
            b=b,
            column=column,
            level=level,
            images=len(common),
            both=None if counted is None else counted.both,
            only_a=None if counted is None else counted.only_a,
            only_b=None if counted is None else counted.only_b,
            neither=None if counted is None else counted.neither,
            shared=None if counted is None else counted.shared,
            tau=kendall_tau(self._losses(a, of_a, common), self._losses(b, of_b, common)),
            difference=self.estimate({pair: of_a[pair] - of_b[pair] for pair in common}),
            void="; ".join(struck),
        )

    def _losses(self, name: str, values: Values, pairs: Sequence[str]) -> list[float]:
        """What each image loses: clean minus attacked PSNR; without ground truth, the less drift the more it keeps."""
        clean = self.clean(name) if self._metric == "psnr" else {}
        return [clean.get(pair, 0.0) - values[pair] for pair in pairs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
