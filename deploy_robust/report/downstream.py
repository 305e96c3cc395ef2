"""What downstream networks saw: figures over all images by view, and examples before and after the attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy_robust.gate.evidence import FIGURES, SEGMENTATION, class_ious, over
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import CLEAN, INPUT, Case
from deploy_robust.report.records import CaseRef
from deploy_robust.statistics.dataset import dataset_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy_robust.gate.records import Measurement

_DRAWS = 300
"""Of each bootstrap here; requirements take more."""

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class SetFigure:
    """A figure over all images taken together, with its interval over scenes; the ends are None where unbounded."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DownstreamRow:
    """What the downstream networks made of one kind of image.

    Attributes:
        view: ``ground truth``, ``rain``, ``clean output``, or the attack whose output was looked at.
        level: Epsilon in grey levels; 0 without an attack.
        images: How many images.
        figures: Metric to its figure; those that are not defined are missing.
        classes: IoU of each class; None for classes that are neither there nor found.
    """

    view: str
    level: float
    images: int
    figures: dict[str, SetFigure]
    classes: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Sight:
    """One image of an example, and what a network saw in it.

    Attributes:
        caption: What the image is.
        image: SHA-256 of it; empty where it was not kept.
        picture: SHA-256 of the predicted labels in colours; empty for a detection.
        found: Boxes: class, x0, y0, x1, y1, score.
        objects: The right boxes: class, x0, y0, x1, y1.
        value: The network's figure on this image alone; None where it is not defined.
    """

    caption: str
    image: str
    picture: str
    found: tuple[tuple[str, float, float, float, float, float], ...]
    objects: tuple[tuple[str, float, float, float, float], ...]
    value: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """The image on which an attack cost a downstream network most.

    Attributes:
        task: ``segmentation`` or ``detection``.
        metric: ``miou`` or ``ap50``.
        case: Pair, attack and epsilon.
        right: SHA-256 of the right labels in colours; empty for a detection.
        sights: Rain, clean output, attacked output.
    """

    task: str
    metric: str
    case: CaseRef
    right: str
    sights: tuple[Sight, ...]


@dataclass(frozen=True, slots=True)
class DownstreamReport:
    """The machine's view.

    Attributes:
        networks: Task to the network's name.
        metrics: What the rows hold.
        class_names: Classes of the segmentation, in the labels' order.
        rows: By view.
        examples: The worst image of each task.
    """

    networks: dict[str, str]
    metrics: tuple[str, ...]
    class_names: tuple[str, ...]
    rows: tuple[DownstreamRow, ...]
    examples: tuple[Example, ...]


def downstream_report(plan: Mapping[str, Any], measurements: Sequence[Measurement]) -> DownstreamReport | None:
    """The machine's view of a run; None where no downstream network looked."""
    facts = plan.get("downstream")
    if not facts:
        return None
    tasks = tuple(facts)
    metrics = tuple(metric for metric, task in FIGURES.items() if task in tasks)
    names = tuple(facts.get(SEGMENTATION, {}).get("classes", ()))
    rows = tuple(
        _row(view, level, seen, metrics, names)
        for (view, level), seen in _views(measurements, tasks).items()
        if any(seen.values())
    )
    examples = tuple(found for task in tasks if (found := _example(task, measurements)) is not None)
    return DownstreamReport({task: facts[task]["name"] for task in tasks}, metrics, names, rows, examples)


def _views(
    measurements: Sequence[Measurement], tasks: Sequence[str]
) -> dict[tuple[str, float], dict[str, list[tuple[str, Any]]]]:
    """(view, epsilon) to task to (scene, evidence) of its images; ground truth, rain and clean output come first."""
    views: dict[tuple[str, float], dict[str, list[tuple[str, Any]]]] = {
        (view, 0.0): {task: [] for task in tasks} for view in ("ground truth", "rain", "clean output")
    }
    for m in measurements:
        for view, prefix in _seen_as(m):
            there = views.setdefault((view, m.case.level), {task: [] for task in tasks})
            for task in tasks:
                if (evidence := m.evidence.get(f"{prefix}{task}")) is not None:
                    there[task].append((m.scene, evidence))
    return dict(sorted(views.items(), key=lambda item: (item[0][1] > 0, item[0][0] if item[0][1] else "", item[0][1])))


def _seen_as(m: Measurement) -> Iterator[tuple[str, str]]:
    if m.role == INPUT:
        yield "ground truth", "truth-"
        yield "rain", ""
    elif m.role == ENGINE and m.delivery == "8bit":
        yield ("clean output" if m.case.attack == CLEAN else m.case.attack), ""


def _row(
    view: str,
    level: float,
    seen: Mapping[str, list[tuple[str, Any]]],
    metrics: Sequence[str],
    names: Sequence[str],
) -> DownstreamRow:
    figures = {}
    for metric in metrics:
        there = seen[FIGURES[metric]]
        if there:
            found = over(metric, [evidence for _, evidence in there])
            value, low, high = dataset_interval(found, [scene for scene, _ in there], _CONFIDENCE, draws=_DRAWS)
            if np.isfinite(value):
                figures[metric] = SetFigure(value, *(end if np.isfinite(end) else None for end in (low, high)))
    classes: dict[str, float | None] = {}
    if segmented := seen.get(SEGMENTATION):
        values = class_ious([evidence for _, evidence in segmented])
        classes = {
            name: float(value) if np.isfinite(value) else None for name, value in zip(names, values, strict=True)
        }
    return DownstreamRow(view, level, max(map(len, seen.values())), figures, classes)


def _example(task: str, measurements: Sequence[Measurement]) -> Example | None:
    """The case that lost most against its own clean output, at the lowest epsilon of those that lost as much."""
    metric = "miou" if task == SEGMENTATION else "ap50"
    by_case = {(m.role, m.case): m for m in measurements if m.delivery == "8bit" and m.defect is None}
    worst: tuple[float, float, Measurement] | None = None
    for (role, case), m in by_case.items():
        clean = by_case.get((ENGINE, Case(case.pair)))
        if role != ENGINE or not case.level or clean is None or metric not in clean.values:
            continue
        if task not in m.evidence:
            continue
        lost = clean.values[metric] - m.values.get(metric, 0.0)
        if worst is None or (lost, -case.level) > worst[:2]:
            worst = lost, -case.level, m
    if worst is None:
        return None
    attacked = worst[2]
    pair = Case(attacked.case.pair)
    rain, clean = by_case.get((INPUT, pair)), by_case[ENGINE, pair]
    right = "" if rain is None else rain.evidence.get(f"truth-{task}", {}).get("right_picture", "")
    views = [("Rain", rain), ("Clean output", clean), ("Attacked output", attacked)]
    sights = tuple(_sight(caption, m, task, metric) for caption, m in views if m is not None)
    case = attacked.case
    return Example(task, metric, CaseRef(case.pair, case.attack, case.level), right, sights)


def _sight(caption: str, m: Measurement, task: str, metric: str) -> Sight:
    evidence = m.evidence.get(task, {})
    boxes = {} if task == SEGMENTATION else evidence
    return Sight(
        caption,
        m.output_image,
        evidence.get("picture", "") if task == SEGMENTATION else "",
        tuple((name, *map(float, row)) for name, each in boxes.items() for row in each["found"]),
        tuple((name, *map(float, row)) for name, each in boxes.items() for row in each["objects"]),
        m.values.get(metric),
    )
