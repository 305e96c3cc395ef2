"""The units that broke a property, as files: 8-bit images that anybody can run through the engine again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from deploy_robust.artefact.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.report.records import Summary
    from deploy_robust.report.summary import Run

FOLDER = "counterexamples"


def write_counterexamples(folder: Path, run: Run, summary: Summary) -> dict[str, Path]:
    """Writes every counterexample of the tests by betting, and an index of them.

    Args:
        folder: The run folder.
        run: The store of the run.
        summary: What `summarise` says of it.

    Returns:
        The index, ``counterexamples/index.json``, by the name ``counterexamples``; nothing where there are none.
    """
    entries = []
    for test in summary.tests:
        for found in test.counterexamples:
            name = f"{found.image[:16]}.png" if found.image else ""
            if name:
                (folder / FOLDER).mkdir(exist_ok=True)
                write_bytes(folder / FOLDER / name, run.png(found.image))
            entries.append({"requirement": test.requirement, "file": name, **asdict(found)})
    if not entries:
        return {}
    engine = (summary.provenance.get("engine") or {}).get("sha256", "")
    index = folder / FOLDER / "index.json"
    index.parent.mkdir(exist_ok=True)
    write_bytes(index, (json.dumps({"engine": engine, "found": entries}, indent=1) + "\n").encode("ascii"))
    return {"counterexamples": index}
