"""The description of a downstream network: what it takes, how its answer is read, what its classes are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from annotated_types import Ge, Le, MinLen

from deploy_robust.artefact.io_description import LARGEST_SIDE, Colour, ElementType, IODescription, Layout, SizeRule
from deploy_robust.boundary import MalformedError, line_of, parse_json, parse_toml, read_text, validated
from deploy_robust.errors import InputError, UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from pathlib import Path

Task = Literal["segmentation", "detection"]
Form = Literal["scores", "labels", "rows", "yolo", "parts", "centres"]
BoxForm = Literal["xyxy", "xywh", "cxcywh"]
Side = Annotated[int, Ge(1), Le(LARGEST_SIDE)]

FORMS: Mapping[Task, tuple[Form, ...]] = {
    "segmentation": ("scores", "labels"),
    "detection": ("rows", "yolo", "parts", "centres"),
}

IGNORE = "ignore"
"""In a class map: detections of the class are dropped; pixels of it count as none of the labelled classes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How an answer is read.

    Attributes:
        form: Of a segmentation: ``scores`` (N, K, h, w), or ``labels`` (N, h, w) or (N, 1, h, w). Of a detection:
            ``rows`` (N, M, 6) of four corners, score and class; ``yolo`` (N, 4 + K, M) of boxes and class scores, not
            yet suppressed; ``parts``, three outputs of boxes (M, 4), scores (M,) and classes (M,); ``centres`` of our
            own detector.
        boxes: What four numbers of a box mean: two corners, a corner and a size, or a centre and a size.
        normalised: Whether boxes are in parts of the input's sides instead of its pixels.
        first_class: Index that stands for the first class; 1 where 0 is the background.
        threshold: Lowest score that counts.
        overlap: For ``yolo``: boxes of one class that overlap more than this are one (non-maximum suppression).
        names: Names of the graph's outputs: ``answer``, or ``boxes``, ``scores`` and ``classes``; left out, they are
            taken in the graph's order.

    Raises:
        UsageError: A value is out of range.
    """

    form: Form
    boxes: BoxForm = "xyxy"
    normalised: bool = False
    first_class: int = 0
    threshold: float = 0.05
    overlap: float = 0.65
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, known in (("form", self.form, get_args(Form)), ("boxes", self.boxes, get_args(BoxForm))):
            if value not in known:
                raise UsageError(f"{name} {value!r}: {instead_of(str(value), known)}")
        if not 0 <= self.threshold < 1 or not 0 < self.overlap <= 1:
            raise UsageError(f"threshold lies in [0, 1) and overlap in (0, 1] (got {self.threshold}, {self.overlap})")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A downstream network described.

    Attributes:
        task: What its answer means.
        classes: Its classes, in the order of its channels or indices.
        io: Range, mean, std, layout, colour and type of its input, and the multiple that sides are padded to.
        size: (height, width) that images are resized to; None takes them as they are.
        reading: How its answer is read.
        renamed: Its name of a class to the labels' name, or to `IGNORE`; classes that are not in it keep their names.

    Raises:
        UsageError: Form and task do not fit, there is no class, or a class in the map is unknown.
    """

    task: Task
    classes: tuple[str, ...]
    io: IODescription
    reading: Reading
    size: tuple[int, int] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in FORMS:
            raise UsageError(f"task {self.task!r}: {instead_of(str(self.task), FORMS)}")
        if self.reading.form not in FORMS[self.task]:
            raise UsageError(
                f"a {self.task} is not read as {self.reading.form!r}: {instead_of(self.reading.form, FORMS[self.task])}"
            )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UsageError(f"classes must be different names, at least one (got {', '.join(self.classes) or 'none'})")
        if unknown := [name for name in self.renamed if name not in self.classes]:
            raise UsageError(f"map: no class is named {unknown[0]!r}: {instead_of(unknown[0], self.classes)}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"size must be (height, width) in pixels (got {self.size})")

    @property
    def named(self) -> tuple[str, ...]:
        """The labels' name of each class."""
        return tuple(self.renamed.get(name, name) for name in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a run's plan."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class DownstreamInput:
    """The table ``input`` of a description; see `Adapter` and `IODescription`."""

    size: tuple[Side, Side] | None = None
    multiple: Side = 1
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: Layout = "NCHW"
    colour: Colour = "RGB"
    dtype: ElementType = "float32"


@dataclass(frozen=True, slots=True)
class DownstreamNetwork:
    """A description as its file spells it.

    Attributes:
        model: The model's file, seen from the description's folder.
        task: What its answer means.
        classes: Its classes.
        output: How its answer is read.
        input: What it takes.
        map: Its name of a class to the labels' name, or to `IGNORE`.
    """

    model: Annotated[str, MinLen(1)]
    task: Task
    classes: tuple[str, ...]
    output: Reading
    input: DownstreamInput = field(default_factory=DownstreamInput)
    map: Mapping[str, str] = field(default_factory=dict)

    def adapter(self) -> Adapter:
        """The description as the wrapper takes it.

        Raises:
            UsageError: Parts of it contradict each other.
        """
        given = dataclasses.asdict(self.input)
        size, multiple = given.pop("size"), given.pop("multiple")
        return Adapter(
            task=self.task,
            classes=self.classes,
            io=IODescription(**given, size=SizeRule(multiple=multiple)),
            reading=self.output,
            size=size,
            renamed=self.map,
        )


def read_adapter(path: Path) -> tuple[Adapter, Path]:
    """Reads a description in TOML or JSON.

    Returns:
        The description, and the model's file: what its key ``model`` names, seen from its folder.

    Raises:
        InputError: The file is missing or malformed; the message names the key.
    """
    table = path.suffix.lower() != ".json"
    try:
        text = read_text(path)
        network = validated(DownstreamNetwork, parse_toml(text) if table else parse_json(text))
    except MalformedError as error:
        line = line_of(text, error.problems[0].place) if table and error.problems else None
        said = "; ".join(problem.said for problem in error.problems) or str(error)
        raise InputError(f"the description {path}{f', line {line}' if line else ''}: {said}") from error
    try:
        return network.adapter(), path.parent / network.model
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error
