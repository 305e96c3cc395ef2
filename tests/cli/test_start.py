"""What costs nothing: help, version, and words that the command line does not know."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COUNT_IMPORTS = """
import sys
from deploy_robust.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print("ended with", stop.code)
print("heavy:", sorted({"torch", "numpy", "onnx", "onnxruntime", "pydantic"} & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["--version"], []])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", COUNT_IMPORTS, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert "heavy: []" in ended.stdout
    assert "ended with 0" in ended.stdout or not arguments


def test_help_names_every_command(cli: Any, tmp_path: Path) -> None:
    ended = cli.run("--help", cwd=tmp_path)
    assert ended.code == 0
    for command in ("check", "export", "train", "demo", "doctor", "models"):
        assert f"  {command} " in ended.out


def test_nothing_typed_shows_the_help_and_is_no_success(cli: Any, tmp_path: Path) -> None:
    ended = cli.run(cwd=tmp_path)
    assert ended.code == 2
    assert ended.err.startswith("Usage: deploy-robust")
    assert "  check " in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chekc"], ["'chekc'", "did you mean 'check'?", "--help"]),
        (["check", "--engin", "x.onnx"], ["--engin", "--engine", "check --help"]),
        (["check"], ["--engine"]),
        (["check", "--engine", "x.onnx", "--limit", "none"], ["--limit", "none"]),
        (["check", "--engine", "x.onnx", "--size", "big"], ["'big'", "HEIGHTxWIDTH"]),
        (["check", "--engine", "x.onnx", "--range", "0"], ["'0'", "0,255"]),
        (["check", "--engine", "x.onnx", "--data", "photos", "--crop", "64"], ["--size", "--crop"]),
    ],
)
def test_words_that_the_command_line_does_not_know(
    cli: Any, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    complaint = cli.run(*arguments, cwd=tmp_path).complaint()
    assert [word for word in words if word not in complaint] == []
    assert list(tmp_path.iterdir()) == []
