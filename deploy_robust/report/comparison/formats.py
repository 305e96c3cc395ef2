"""Writing a comparison into its run folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from deploy_robust.artefact.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.report.comparison.records import Comparison

JSON_NAME, HTML_NAME = "compare.json", "report.html"


def write_comparison(folder: Path, comparison: Comparison) -> dict[str, Path]:
    """Writes the page and the JSON, each whole or not at all.

    Args:
        folder: Where to.
        comparison: What they say.

    Returns:
        The files by format.

    Raises:
        InputError: The folder cannot be written.
    """
    from deploy_robust.report.comparison.html import render

    files = {"json": folder / JSON_NAME, "html": folder / HTML_NAME}
    write_bytes(files["json"], (json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n").encode("ascii"))
    write_bytes(files["html"], render(comparison))
    return files
