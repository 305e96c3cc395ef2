"""The demonstration as a process: one twin fails the default policy, the other one passes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_plain_engine_fails_and_the_robust_one_passes(cli: Any, tmp_path: Path) -> None:
    ended = cli.run("demo", cwd=tmp_path, timeout=3000)
    assert ended.code == 0, ended.err
    reports = {
        name: json.loads((tmp_path / "runs" / "demo" / name / "run" / "report.json").read_text())
        for name in ("plain", "robust")
    }
    assert {name: report["status"] for name, report in reports.items()} == {"plain": "FAIL", "robust": "PASS"}
    (reason,) = reports["plain"]["because"]
    assert reason.startswith("collapse at 2/255: the source alone fails it")
