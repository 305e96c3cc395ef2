"""What ``import deploy_robust`` offers, what it costs, and what it does without."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import deploy_robust


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_public_names_are_the_use_cases() -> None:
    from deploy_robust.app.attack import attack
    from deploy_robust.app.check import check
    from deploy_robust.app.compare import compare
    from deploy_robust.app.export import export
    from deploy_robust.app.train import train
    from deploy_robust.app.verify import verify

    assert (deploy_robust.check, deploy_robust.export, deploy_robust.train) == (check, export, train)
    assert deploy_robust.verify is verify
    assert deploy_robust.attack is attack
    assert deploy_robust.compare is compare
    assert set(deploy_robust.__all__) <= set(dir(deploy_robust))
    assert deploy_robust.__all__ == sorted(deploy_robust.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'chekc'"):
        _ = deploy_robust.chekc


def test_one_version_everywhere() -> None:
    assert deploy_robust.__version__ == version("deploy-robust")


def test_the_import_costs_nothing_and_the_names_come_when_asked_for() -> None:
    heavy = "sorted({'torch', 'numpy', 'onnx', 'onnxruntime', 'click', 'PIL'} & set(sys.modules))"
    assert python(f"import sys, deploy_robust; print({heavy})") == "[]"
    assert python("from deploy_robust import check, export, train; print(check.__name__)") == "check"


def test_every_module_imports_without_the_optional_runtimes() -> None:
    """`None` in `sys.modules` makes an import fail as if nothing were installed."""
    code = """
import importlib, pkgutil, sys
for name in ("tensorrt", "openvino", "polygraphy"):
    sys.modules[name] = None
import deploy_robust
names = [m.name for m in pkgutil.walk_packages(deploy_robust.__path__, "deploy_robust.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
    assert int(python(code)) > 100


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "engines/onnxruntime.py",
        "exporters/onnx_fp32.py",
        "cli/check.py",
        "gate/policies/default.toml",
        "report/report.schema.json",
        "report/assets/report.html",
        "report/assets/report.css",
        "report/assets/report.js",
        "report/assets/compare.html",
        "report/assets/compare.css",
        "models/weights/prenet-small.safetensors",
    ],
)
def test_the_package_holds_its_files(name: str) -> None:
    """Of the wheel, where the tests run on one."""
    assert files("deploy_robust").joinpath(name).is_file()
