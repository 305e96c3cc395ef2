"""How an engine is loaded is the user's to say, stands in the report, and belongs to the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def test_arithmetic_and_runtime_stand_in_the_report_and_belong_to_the_run(cli: Any, tmp_path: Path) -> None:
    engine = cli.blur(tmp_path / "net.onnx")
    found = {}
    for arithmetic in ("literal", "fused"):
        ended = cli.check(engine, "--arithmetic", arithmetic, "--out", arithmetic, cwd=tmp_path)
        assert ended.code in (0, 1, 3), ended.err
        report = json.loads((tmp_path / arithmetic / "report.json").read_text())
        found[arithmetic] = report["provenance"]["engine"]["capabilities"]
        assert any(f"CPUExecutionProvider, {arithmetic} arithmetic" in note for note in report["notes"])
    assert {name: each["arithmetic"] for name, each in found.items()} == {"literal": "literal", "fused": "fused"}

    ended = cli.check(engine, "--runtime", "literal", "--out", "named", cwd=tmp_path)
    assert ended.code in (0, 1, 3), ended.err
    report = json.loads((tmp_path / "named" / "report.json").read_text())
    assert report["provenance"]["engine"]["kind"] == "literal"

    again = cli.check(engine, "--arithmetic", "literal", "--out", "fused", cwd=tmp_path)
    assert again.code == 2
    assert "capabilities.arithmetic" in again.err or "another" in again.err
