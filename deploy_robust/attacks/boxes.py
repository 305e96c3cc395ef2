"""Boxes as flags and JSON files give them, found by the id of each row's pair."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy_robust.attacks.attack import Task

Corners = tuple[int, int, int, int]
"""``x0, y0, x1, y1`` in pixels: ``x0 <= x < x1`` and ``y0 <= y < y1``."""

_HOW = "write x0,y0,x1,y1, several with ; between them, or name a .json file"


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of every image.

    Attributes:
        text: As given, for the record.
        by_pair: Boxes by id of the pair; ``*`` for all others.
    """

    text: str
    by_pair: Mapping[str, tuple[Corners, ...]]

    @classmethod
    def read(cls, text: str) -> Boxes:
        """Reads ``x0,y0,x1,y1;...`` for all images, or a JSON object from pair id (``*``: all others) to such lists.

        Raises:
            UsageError: The text is no list of boxes.
            InputError: The file is not there or holds something else.
        """
        if not text.endswith(".json"):
            try:
                return cls(text, {"*": tuple(_corners(part.split(",")) for part in text.split(";"))})
            except ValueError as error:
                raise UsageError(f"boxes {text!r} cannot be read ({error}): {_HOW}") from None
        try:
            found = json.loads(Path(text).read_text(encoding="utf-8"))
            return cls(text, {str(key): tuple(_corners(box) for box in value) for key, value in found.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f'{text} is no file of boxes ({error}): write an object like {{"pair id": [[x0, y0, x1, y1]], "*": []}}'
            ) from None

    def of(self, task: Task) -> list[tuple[Corners, ...]]:
        """The boxes of each row, whose key begins with the id of its pair.

        Raises:
            UsageError: There are none for a row, or one leaves the image.
        """
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


def _corners(values: Iterable[str | int]) -> Corners:
    x0, y0, x1, y1 = (int(value) for value in values)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError(f"{x0},{y0},{x1},{y1} is empty or negative")
    return x0, y0, x1, y1
