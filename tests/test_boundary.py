"""Parsed content keeps within limits, and what is wrong with a value is told with its place and what is right."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # the boundary reads the annotations
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from annotated_types import Ge

from deploy_robust.boundary import (
    DEEPEST,
    Figure,
    Holding,
    MalformedError,
    json_schema,
    line_of,
    parse_json,
    parse_toml,
    read_text,
    validated,
    versioned,
)


@dataclass(frozen=True, slots=True)
class Inner:
    multiple: Annotated[int, Ge(1)] = 1
    fixed: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    kind: Literal["fp32", "int8"] = "fp32"
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    either: float | str = 0.0
    facts: Annotated[Mapping[str, Any], Holding({"device": str}, file=str)] | None = None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ('{"a": NaN}', "a must be a finite number (got nan)"),
        ('{"a": [1, -Infinity]}', "a[1] must be a finite number"),
        ('{"a": 1e999}', "a must be a finite number"),
        ('{"a": ' + "9" * 400 + "}", "a must be a number below 2^63"),
        ('{"a": ' + "9" * 5000 + "}", "a number of thousands of digits"),
        ('{"a": 9223372036854775808}', "a must be a number below 2^63"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("[" * 100_000, f"deeper than {DEEPEST} levels"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"deeper than {DEEPEST} levels"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"\\ud800": 1}', "half a character"),
    ],
)
def test_json_beyond_a_limit_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_json(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_json_within_the_limits_is_what_json_is() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert parse_json(f'{{"a": [1, 2.5, "é", null, true], "deep": {deep[1:-1]}, "n": -9223372036854775807}}')["a"] == [
        1,
        2.5,
        "é",
        None,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = ", "is not TOML"),
        ("a = nan", "a must be a finite number"),
        ("a = 1\na = 2", "is not TOML"),
        ("a = " + "[" * 50_000, f"deeper than {DEEPEST} levels"),
        ("a = 1" + "0" * 400, "a must be a number below 2^63"),
    ],
)
def test_toml_beyond_a_limit_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_toml(text)
    assert complaint in str(caught.value)


def test_files_are_read_within_limits(tmp_path: Any) -> None:
    with pytest.raises(MalformedError, match="cannot be read"):
        read_text(tmp_path / "none")
    with pytest.raises(MalformedError, match="cannot be read"):
        read_text(tmp_path / "a\0b")
    (tmp_path / "utf16").write_bytes("{}".encode("utf-16"))
    with pytest.raises(MalformedError, match="no UTF-8"):
        read_text(tmp_path / "utf16")
    (tmp_path / "long").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(MalformedError, match="larger than 1 MiB"):
        read_text(tmp_path / "long", 2**20)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "must be a table of keys (got [])"),
        ({}, "the key 'name' is missing"),
        ({"name": 3}, "name must be a string (got 3)"),
        ({"name": "a", "kind": "int9"}, "kind 'int9': did you mean 'int8'? known are fp32, int8"),
        ({"name": "a", "kind": 8}, "kind must be one of fp32, int8 (got 8)"),
        ({"name": "a", "inner": {"multiple": 0}}, "inner.multiple must be at least 1 (got 0)"),
        ({"name": "a", "inner": {"multiple": 2.5}}, "inner.multiple must be a whole number (got 2.5)"),
        ({"name": "a", "inner": {"multiple": True}}, "inner.multiple must be a whole number (got True)"),
        ({"name": "a", "inner": {"fixed": [1, "2"]}}, "inner.fixed[1] must be a whole number (got '2')"),
        (
            {"name": "a", "many": [{}, {"multipel": 2}]},
            "unknown key 'multipel': did you mean 'multiple'? known are multiple, fixed (in many[1])",
        ),
        ({"name": "a", "either": None}, "either must be a number or a string (got None)"),
        ({"name": "a", "figures": {"x": "infinite"}}, "figures.x must be a number (got 'infinite')"),
        ({"name": "a", "facts": {"more": 1}}, "the key 'facts.file' is missing"),
        ({"name": "a", "facts": {"file": "f", "device": 0}}, "facts.device must be a string (got 0)"),
        ({"name": 1, "kind": 2}, ", and 1 more"),
    ],
)
def test_a_wrong_value_is_told_where_and_what_is_right(data: Any, complaint: str) -> None:
    with pytest.raises(MalformedError) as caught:
        validated(Outer, data)
    assert complaint in str(caught.value)
    assert not _fits(data)


def _fits(data: Any) -> bool:
    return jsonschema.Draft202012Validator(json_schema(Outer)).is_valid(data)


def test_a_right_value_is_the_dataclass_itself() -> None:
    data = {
        "name": "a",
        "inner": {"fixed": [64, 32]},
        "many": [{"multiple": 8}],
        "figures": {"psnr": "inf", "ssim": 1},
        "either": "identical",
        "facts": {"file": "f", "more": [1]},
    }
    found = validated(Outer, data)
    assert found == Outer(
        "a",
        inner=Inner(fixed=(64, 32)),
        many=(Inner(8),),
        figures={"psnr": float("inf"), "ssim": 1.0},
        either="identical",
        facts={"file": "f", "more": [1]},
    )
    assert _fits(data)


@pytest.mark.parametrize("schema", [None, 2, True, "1", 1.0])
def test_another_version_is_refused(schema: Any) -> None:
    assert versioned(Inner, {"schema": 1, "multiple": 2}, 1) == Inner(2)
    with pytest.raises(MalformedError, match="this version reads 1"):
        versioned(Inner, {"schema": schema}, 1)
    with pytest.raises(MalformedError, match="'multiple' is missing"):
        versioned(Inner, {"schema": 1}, 1, required=["multiple"])


TOML = """\
name = "x"  # requirement
[[requirement]]
name = "first"
at_least = 3

[[requirement]]
name = "second"
at_least = 4
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [(("name",), 1), (("requirement", 0, "at_least"), 4), (("requirement", 1, "at_least"), 8), (("nothing",), None)],
)
def test_a_place_in_toml_has_a_line(place: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(TOML, place) == line
