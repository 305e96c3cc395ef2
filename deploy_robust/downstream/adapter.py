"""The description of a downstream network: what it takes, how its answer is read, what its classes are called."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.errors import InputError, UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Task = Literal["segmentation", "detection"]
Form = Literal["scores", "labels", "rows", "yolo", "parts", "centres"]
BoxForm = Literal["xyxy", "xywh", "cxcywh"]

FORMS: Mapping[Task, tuple[Form, ...]] = {
    "segmentation": ("scores", "labels"),
    "detection": ("rows", "yolo", "parts", "centres"),
}

IGNORE = "ignore"
"""In a class map: detections of the class are dropped; pixels of it count as none of the labelled classes."""

_TOP = ("model", "task", "classes", "input", "output", "map")
_INPUT = ("size", "multiple", "range", "mean", "std", "layout", "colour", "dtype")


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


def read_adapter(path: Path) -> tuple[Adapter, Path]:
    """Reads a description in TOML or JSON.

    Returns:
        The description, and the model's file: what its key ``model`` names, seen from its folder.

    Raises:
        InputError: The file is missing or malformed; the message names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the description {path}: {error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no {'JSON' if path.suffix.lower() == '.json' else 'TOML'}: {error}") from error
    try:
        return _adapter(data), path.parent / str(data["model"])
    except (UsageError, TypeError, KeyError) as error:
        said = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: {said}") from error


def _adapter(data: Any) -> Adapter:
    if not isinstance(data, dict):
        raise UsageError("a description is a table of keys")
    _known(data, _TOP, "")
    given = dict(data.get("input", {}))
    _known(given, _INPUT, "input.")
    size, multiple = given.pop("size", None), int(given.pop("multiple", 1))
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    for key in ("range", "mean", "std"):
        if key in values:
            values[key] = tuple(float(number) for number in values[key])
    output = dict(data["output"])
    _known(output, [f.name for f in dataclasses.fields(Reading)], "output.")
    return Adapter(
        task=data["task"],
        classes=tuple(data["classes"]),
        io=IODescription(**values, size=SizeRule(multiple=multiple)),
        reading=Reading(**output),
        size=None if size is None else (int(size[0]), int(size[1])),
        renamed=dict(data.get("map", {})),
    )


def _known(table: Mapping[str, Any], known: Any, where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"unknown key {where}{key}: {instead_of(key, list(known))}")
