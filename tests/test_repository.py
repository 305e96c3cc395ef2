"""The tools see all four source folders, and the wheel holds them as real files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FORBIDDEN = {
    "deploy_robust/attacks": "deploy_robust.gate.judge",
    "engines": "deploy_robust.exporters.onnx_fp32",
    "exporters": "deploy_robust.engines.torch_module",
    "cli": "deploy_robust.engines.torch_module",
}
"""Where a module is planted, and what no module may import there."""


def tool(name: str) -> str:
    """A command beside this interpreter or on the path."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, with a forbidden import and an error of types in each of the four folders."""
    listed = subprocess.run([tool("git"), "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    copy = tmp_path_factory.mktemp("tree")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists() and Path(name).parts[0] not in ("tests", "docs", "benchmarks"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    for folder, module in FORBIDDEN.items():
        (copy / folder / "planted.py").write_text(f'"""Wrong."""\nimport {module}\n\nnumber: int = "text"\n')
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
    return copy


def lint(command: list[str], tree: Path) -> str:
    """What a tool that must fail there says."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    ended = subprocess.run(command, cwd=tree, env=kept, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return ended.stdout


def inside(folder: str) -> str:
    """The package's folder that leads to one of the four."""
    return folder if folder.startswith("deploy_robust") else f"deploy_robust/{folder}"


def test_mypy_sees_an_error_in_each_of_the_four_folders(planted: Path) -> None:
    said = lint([tool("mypy")], planted)
    for folder in FORBIDDEN:
        assert f"{inside(folder)}/planted.py:4: error: Incompatible types in assignment" in said


def test_import_linter_sees_a_forbidden_import_in_each_of_the_four_folders(planted: Path) -> None:
    said = lint([tool("lint-imports"), "--no-cache"], planted)
    for folder, module in FORBIDDEN.items():
        assert f"{inside(folder).replace('/', '.')}.planted -> {module} (l.2)" in said
    assert "2 broken" in said


def test_ruff_sees_an_error_in_each_of_the_four_folders(planted: Path) -> None:
    said = lint([tool("ruff"), "check", "--no-cache", "--output-format", "concise", "."], planted)
    for folder in FORBIDDEN:
        assert f"{folder}/planted.py:2" in said


def test_make_lint_calls_all_of_them() -> None:
    calls = subprocess.run([tool("make"), "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("/ruff check .", "/ruff format --check .", "/mypy", "/lint-imports"):
        assert command in calls


def test_the_wheel_holds_the_four_folders_as_real_files() -> None:
    wheels = sorted((ROOT / "dist").glob("*.whl"))
    if not wheels:
        pytest.skip("no wheel was built (make wheel)")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        entries = {entry.filename: entry for entry in wheel.infolist()}
    tops = {name.split("/")[0] for name in entries}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"deploy_robust"}
    assert not any(stat.S_ISLNK(entry.external_attr >> 16) for entry in entries.values())
    for source in (ROOT / "deploy_robust", *(ROOT / folder for folder in ("engines", "exporters", "cli"))):
        prefix = "deploy_robust" if source.name == "deploy_robust" else f"deploy_robust/{source.name}"
        for file in source.rglob("*.py"):
            assert f"{prefix}/{file.relative_to(source).as_posix()}" in entries
    for name in ("py.typed", "gate/policies/default.toml", "report/assets/report.html", "report/report.schema.json"):
        assert entries[f"deploy_robust/{name}"].file_size >= 0
    assert entries["deploy_robust/models/weights/prenet-small.safetensors"].file_size > 100_000
