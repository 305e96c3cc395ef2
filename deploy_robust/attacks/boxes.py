"""Boxes as flags, JSON files and the labels of images give them, found by the id of each row's pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.boundary import parse_json, read_text, validated
from deploy_robust.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy_robust.attacks.attack import Task

Corners = tuple[int, int, int, int]
"""``x0, y0, x1, y1`` in pixels: ``x0 <= x < x1`` and ``y0 <= y < y1``."""

_HOW = "write x0,y0,x1,y1, several with ; between them, labels:person for those of a label, or name a .json file"

_LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of every image.

    Attributes:
        text: As given, for the record.
        by_pair: Boxes by id of the pair; ``*`` for all others.
        label: Takes the boxes of the images' own labels instead: of this label, of all for ``*``; empty does not.
    """

    text: str
    by_pair: Mapping[str, tuple[Corners, ...]]
    label: str = ""

    @classmethod
    def read(cls, text: str) -> Boxes:
        """Reads ``x0,y0,x1,y1;...`` for all images, or a JSON object from pair id (``*``: all others) to such lists.

        ``labels`` takes the boxes that an image's labels hold, ``labels:NAME`` those of one label.

        Raises:
            UsageError: The text is no list of boxes.
            InputError: The file is not there or holds something else.
        """
        kind, _, label = text.partition(":")
        if kind == _LABELS:
            return cls(text, {}, label.strip() or "*")
        if not text.endswith(".json"):
            try:
                return cls(text, {"*": tuple(_corners(part.split(",")) for part in text.split(";"))})
            except ValueError as error:
                raise UsageError(f"boxes {text!r} cannot be read ({error}): {_HOW}") from None
        try:
            found = validated(dict[str, tuple[Corners, ...]], parse_json(read_text(Path(text))))
            return cls(text, {key: tuple(_corners(box) for box in value) for key, value in found.items()})
        except ValueError as error:
            raise InputError(
                f'{text} is no file of boxes ({error}): write an object like {{"pair id": [[x0, y0, x1, y1]], "*": []}}'
            ) from None

    def of(self, task: Task) -> list[tuple[Corners, ...]]:
        """The boxes of each row, whose key begins with the id of its pair; by labels a row may have none.

        Raises:
            UsageError: There are none for a row, or one leaves the image; or labels are asked for and there are none.
        """
        if self.label:
            return self._labelled(task)
        height, width = task.x.shape[-2:]
        rows = []
        for key in task.keys:
            boxes = self.by_pair.get(str(key[0]), self.by_pair.get("*", ()))
            if not boxes:
                raise UsageError(f"there is no box for the image {key[0]!r}: add it, or a line for '*'")
            for box in boxes:
                if box[2] > width or box[3] > height:
                    raise UsageError(
                        f"box {box} leaves the image {key[0]!r} of {width}x{height}: give pixels inside it"
                    )
            rows.append(boxes)
        return rows

    def _labelled(self, task: Task) -> list[tuple[Corners, ...]]:
        if task.labels is None:
            raise UsageError(f"boxes {self.text!r} are those of the images' labels, and no labels came with them")
        return [
            tuple((b.x0, b.y0, b.x1, b.y1) for b in labels.boxes if self.label in ("*", b.label))
            for labels in task.labels
        ]


def largest(boxes: Iterable[Corners]) -> Corners:
    """The box of the largest area, the first of equals."""
    return max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))


def beside(box: Corners, width: int) -> Corners:
    """A place of the same size and height beside a box: on the side with more room, next to it or at the border."""
    x0, y0, x1, y1 = box
    length = x1 - x0
    start = min(x1, width - length) if width - x1 > x0 else max(0, x0 - length)
    return start, y0, start + length, y1


def _corners(values: Iterable[str | int]) -> Corners:
    x0, y0, x1, y1 = (int(value) for value in values)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError(f"{x0},{y0},{x1},{y1} is empty or negative")
    return x0, y0, x1, y1
