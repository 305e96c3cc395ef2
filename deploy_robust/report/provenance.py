"""The plan of a run as lines of a table, whatever it holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def flatten(plan: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections in the order of the plan, each with (key, value) lines; nested keys are joined by dots.

    Plain values that stand at the top of the plan come last, in a section named ``run``.
    """
    sections = {key: list(_lines("", value)) for key, value in plan.items() if isinstance(value, dict) and value}
    loose = [line for key, value in plan.items() if not isinstance(value, dict) for line in _lines(key, value)]
    if loose:
        sections["run"] = loose
    return list(sections.items())


def _lines(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _lines(f"{key}.{name}" if key else str(name), inner)
        if not value:
            yield key, "default settings"
    elif isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        for index, inner in enumerate(value, start=1):
            name = inner.get("name") if isinstance(inner, dict) else None
            yield from _lines(f"{key}.{index}" + (f" {name}" if name else ""), inner)
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value)
