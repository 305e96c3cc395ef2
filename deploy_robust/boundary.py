"""Where files become typed values: parsed within limits, validated against a dataclass, or refused in one line.

The forms are the frozen dataclasses of the package themselves. pydantic reads their annotations, validates strictly (a
number in a string is no number, an unknown key is an error) and makes their JSON Schema; it is imported on first use.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

from deploy_robust.errors import UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from pydantic import TypeAdapter

T = TypeVar("T")

MOST_BYTES = 64 * 2**20
"""A text file of more bytes than this is refused unread."""

DEEPEST = 40
"""Levels of lists and tables inside each other."""

LARGEST = 2**63
"""Whole numbers lie below this, on both sides of zero."""

_LONGEST_SHOWN = 60

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "a boolean",
    "dict_type": "a table of keys",
    "mapping_type": "a table of keys",
    "dataclass_type": "a table of keys",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "null",
    "finite_number": "finite",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a value.

    Attributes:
        place: Keys and indices that lead to it.
        said: What is wrong and what would be right; names the place.
        structural: Whether a key is missing or unknown, rather than a value wrong.
    """

    place: tuple[str | int, ...]
    said: str
    structural: bool = False


class MalformedError(ValueError):
    """Content that cannot be used; the message is what follows the file's name in a sentence.

    Attributes:
        problems: What is wrong with a value that was parsed; empty where it was not.
    """

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class Holding:
    """Annotates a table that holds at least these keys, each of its form, and whatever else.

    Args:
        optional: Keys that may be missing.
        **keys: Keys that must be there.
    """

    def __init__(self, optional: Mapping[str, Any] | None = None, /, **keys: Any) -> None:
        self._keys, self._optional = keys, optional or {}

    def __get_pydantic_core_schema__(self, _: Any, handler: Any) -> Any:
        """What pydantic asks of an annotation."""
        from pydantic_core import core_schema

        return core_schema.typed_dict_schema(
            {
                key: core_schema.typed_dict_field(handler.generate_schema(form), required=needed)
                for needed, forms in ((True, self._keys), (False, self._optional))
                for key, form in forms.items()
            },
            extra_behavior="allow",
        )


class _InWords:
    """Annotates a number that JSON may hold as one of these words, because it has no infinity."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_core_schema__(self, _: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def figure(value: Any) -> Any:
            return float(value) if isinstance(value, str) and value in self._words else value

        return core_schema.no_info_before_validator_function(figure, handler(float))

    def __get_pydantic_json_schema__(self, _: Any, __: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "number"}, {"enum": list(self._words)}]}


Figure = Annotated[float, _InWords("inf", "-inf")]
"""A number or an infinity, as ``repr`` writes it."""

AnyFigure = Annotated[float, _InWords("inf", "-inf", "nan")]
"""The same, or not a number."""


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file.

    Raises:
        MalformedError: It cannot be read, is too large, or is no UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise MalformedError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    return _decoded(content, most)


def parse_json(content: str | bytes, most: int = MOST_BYTES) -> Any:
    """JSON within limits: UTF-8, no key twice in one object, finite numbers, whole ones below `LARGEST`, `DEEPEST`.

    Raises:
        MalformedError: It is no JSON, or beyond a limit.
    """
    text = _decoded(content, most) if isinstance(content, bytes) else content
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except MalformedError:
        raise
    except RecursionError:
        raise MalformedError(f"is damaged (nested deeper than {DEEPEST} levels)") from None
    except ValueError as error:
        raise MalformedError(f"is damaged ({_syntax(error)})") from error
    require_limits(data)
    return data


def parse_toml(text: str) -> dict[str, Any]:
    """TOML within the same limits; TOML itself forbids a key twice.

    Raises:
        MalformedError: It is no TOML, or beyond a limit.
    """
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise MalformedError(f"is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise MalformedError(f"is not TOML: {_syntax(error)}") from error
    require_limits(data)
    return data


@overload
def validated(form: type[T], data: Any, required: Collection[str] = ()) -> T: ...
@overload
def validated(form: Any, data: Any, required: Collection[str] = ()) -> Any: ...
def validated(form: Any, data: Any, required: Collection[str] = ()) -> Any:
    """A value of a form (a dataclass, a TypedDict, any type that pydantic reads) from parsed data.

    Args:
        form: What the data must be.
        data: What `parse_json` or `parse_toml` gave.
        required: Keys that must be there although the form has defaults for them.

    Raises:
        MalformedError: It is not; with every problem and its place.
    """
    from pydantic import ValidationError

    if isinstance(data, dict) and (missing := [key for key in required if key not in data]):
        raise _malformed([Problem((key,), f"the key {key!r} is missing", structural=True) for key in missing])
    try:
        # As JSON, lists become tuples where the form has tuples, and nothing else is converted.
        (value,) = _adapter(form).validate_json(f"[{json.dumps(data)}]")
    except ValidationError as error:
        raise _malformed(_problems(form, error.errors(include_url=False))) from None
    except UsageError as error:  # from __post_init__
        raise MalformedError(f"is not usable: {error}", (Problem((), str(error)),)) from error
    return value


def versioned(form: type[T], data: Any, schema: int, required: Collection[str] = ()) -> T:
    """The same for a file of ours, which says its version under ``schema``.

    Raises:
        MalformedError: It has another version, or is not of the form.
    """
    if not isinstance(data, dict):
        raise MalformedError(f"has schema None and this version reads {schema}")
    found = data.get("schema")
    if type(found) is not int or found != schema:
        raise MalformedError(f"has schema {shown(found)} and this version reads {schema}")
    return validated(form, {key: value for key, value in data.items() if key != "schema"}, required)


def json_schema(form: Any) -> dict[str, Any]:
    """The JSON Schema of a form."""
    schema = _adapter(form).json_schema()
    return {**schema["prefixItems"][0], **{key: schema[key] for key in ("$defs",) if key in schema}}


def path_of(place: Iterable[str | int]) -> str:
    """A place as one word, like ``requirement[2].at_least``."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (
                step if step.isprintable() and len(step) <= _LONGEST_SHOWN else shown(step)
            )
    return text


def shown(value: Any) -> str:
    """A value as messages quote it: short, on one line."""
    try:
        text = _one_line(repr(value))
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def line_of(text: str, place: Iterable[str | int]) -> int | None:
    """The line of a TOML text, from 1, that says the last word of a place; None where none does.

    The words are looked for one after the other; the index of a table in a list counts its ``[[headers]]``.
    """
    import re

    steps = list(place)
    lines = [line.split("#")[0] for line in text.splitlines()]
    at, found = 0, None
    for index, step in enumerate(steps):
        if isinstance(step, int):
            continue
        count = steps[index + 1] if index + 1 < len(steps) and isinstance(steps[index + 1], int) else 0
        word = re.escape(step)
        headers = [n for n in range(at, len(lines)) if re.match(rf"\s*\[\[\s*{word}\s*\]\]", lines[n])]
        if headers and isinstance(count, int) and count < len(headers):
            at = found = headers[count]
            continue
        pattern = re.compile(rf"(?<![\w-]){word}(?![\w-])")
        said = next((n for n in range(at, len(lines)) if pattern.search(lines[n])), None)
        if said is not None:
            at = found = said
    return None if found is None else found + 1


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    # Dataclasses take over what holds for the tuple that they are in: no unknown key, and nothing converted.
    return TypeAdapter(tuple[form], config=ConfigDict(extra="forbid", strict=True))


def _decoded(content: bytes, most: int) -> str:
    if len(content) > most:
        raise MalformedError(f"is damaged (larger than {most // 2**20} MiB)")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"is damaged (no UTF-8 text: {error.reason} at byte {error.start})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in table if keys.count(key) > 1)
        raise MalformedError(f"is damaged (the key {shown(twice)} stands twice in one object)")
    return table


def require_limits(data: Any) -> None:
    """Holds parsed data within the limits of this module, walking through it without recursion.

    Raises:
        MalformedError: It is beyond one, or holds what JSON has no word for.
    """
    open_: list[tuple[Any, tuple[str | int, ...]]] = [(data, ())]
    while open_:
        value, place = open_.pop()
        if isinstance(value, dict | list):
            if len(place) >= DEEPEST:
                raise MalformedError(f"is damaged (nested deeper than {DEEPEST} levels)")
            entries: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            open_.extend((each, (*place, key)) for key, each in entries)
            if isinstance(value, dict):
                open_.extend((key, place) for key in value if not key.isascii())
        elif isinstance(value, str) and not value.isascii() and not _is_text(value):
            raise _malformed([Problem(place, f"{path_of(place)} holds half a character ({shown(value)})")])
        elif isinstance(value, float) and not math.isfinite(value):
            raise _malformed([Problem(place, f"{path_of(place)} must be a finite number (got {value})")])
        elif isinstance(value, int) and not -LARGEST < value < LARGEST:
            raise _malformed([Problem(place, f"{path_of(place)} must be a number below 2^63 (got {shown(value)})")])

        elif not isinstance(value, str | int | float | None):
            kind = type(value).__name__
            raise _malformed([Problem(place, f"{path_of(place)} must be text or a number (got a {kind})")])


def _malformed(problems: list[Problem]) -> MalformedError:
    first = problems[0]
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    said = (
        f"lacks or misnames a field ({first.said}{more})" if first.structural else f"is not usable: {first.said}{more}"
    )
    return MalformedError(said, tuple(problems))


def _problems(form: Any, errors: list[Any]) -> list[Problem]:
    """Pydantic's errors in our words; the branches of a union are one problem."""
    problems: list[Problem] = []
    unknown: list[Problem] = []
    branches: dict[tuple[Any, ...], list[str]] = {}
    for error in errors:
        kind, place, context = error["type"], tuple(error["loc"][1:]), error.get("ctx", {})
        if kind == "missing":
            problems.append(Problem(place, f"the key {path_of(place)!r} is missing", structural=True))
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            outer = _in_form(json_schema(form), place[:-1])
            known = _known(json_schema(form), outer)
            inside = f" (in {path_of(outer)})" if outer else ""
            instead = f": {instead_of(str(place[-1]), known)}" if known else ""
            said = f"unknown key {shown(place[-1])}{instead}{inside}"
            unknown.append(Problem((*outer, place[-1]), said, structural=True))
        elif kind == "literal_error" and isinstance(error["input"], str):
            options = _options(context["expected"])
            said = f"{path_of(place)} {shown(error['input'])}: {instead_of(error['input'], options)}"
            problems.append(Problem(place, said))
        elif kind == "value_error":
            problems.append(Problem(place, f"{path_of(place)}: {context['error']}".removeprefix(": ")))
        else:
            own = _in_form(json_schema(form), place)
            wanted = branches.setdefault(own, [])
            if not wanted:
                problems.append(Problem(own, f"must be \0 (got {shown(error['input'])})"))
            wanted.append(_expected(kind, context, error["msg"]))
    # A key that is misspelt is unknown and missing: the former says what to do.
    return unknown + [
        dataclasses.replace(
            each, said=f"{path_of(each.place)} {each.said}".strip().replace("\0", " or ".join(branches[each.place]))
        )
        if each.place in branches and "\0" in each.said
        else each
        for each in problems
    ]


def _options(expected: str) -> list[str]:
    """The words of a Literal, from pydantic's enumeration of them."""
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    if kind == "literal_error":
        return f"one of {', '.join(_options(context['expected']))}"
    if kind == "greater_than_equal":
        return f"at least {context['ge']:g}"
    if kind == "greater_than":
        return f"above {context['gt']:g}"
    if kind == "less_than_equal":
        return f"at most {context['le']:g}"
    if kind == "less_than":
        return f"below {context['lt']:g}"
    if kind == "too_long":
        return f"at most {context['max_length']} values"
    if kind == "too_short":
        return f"at least {context['min_length']} values"
    if kind == "string_pattern_mismatch":
        return f"of the form {context['pattern']}"
    return _EXPECTED.get(kind, _one_line(message)[0].lower() + _one_line(message)[1:])


def _known(schema: dict[str, Any], place: Iterable[str | int]) -> list[str]:
    """The keys that a form knows at a place; none where any are allowed."""
    node = _node(schema, place)
    return list(node.get("properties", ())) if node is not None else []


def _in_form(schema: dict[str, Any], place: tuple[Any, ...]) -> tuple[Any, ...]:
    """A place of pydantic's without its words for the branches of a union."""
    found: tuple[Any, ...] = ()
    for step in place:
        if _node(schema, (*found, step)) is not None:
            found = (*found, step)
    return found


def _node(schema: dict[str, Any], place: Iterable[str | int]) -> dict[str, Any] | None:
    nodes = [schema]
    for step in place:
        nodes = [inner for node in _branches(schema, nodes) for inner in _inside(node, step)]
    found = _branches(schema, nodes)
    return next((node for node in found if "properties" in node), found[0] if found else None)


def _branches(schema: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for node in nodes:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        found += _branches(schema, node["anyOf"]) if "anyOf" in node else [node]
    return found


def _inside(node: dict[str, Any], step: str | int) -> list[dict[str, Any]]:
    if isinstance(step, int):
        fixed = node.get("prefixItems", [])
        return [fixed[step]] if step < len(fixed) else [node["items"]] if isinstance(node.get("items"), dict) else []
    if step in node.get("properties", {}):
        return [node["properties"][step]]
    other = node.get("additionalProperties")
    return [other] if isinstance(other, dict) else [{}] if other is True else []


def _is_text(text: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _syntax(error: ValueError) -> str:
    """What a parser says, in one line."""
    said = _one_line(str(error))
    return "a number of thousands of digits" if "integer string conversion" in said else said


def _one_line(text: str) -> str:
    return " ".join(text.split())
