"""Writes the documentation's page of every network: ``python -m deploy_robust.app.model_pages docs/models``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.app.models import model_rows
from deploy_robust.errors import UsageError
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy_robust.models.page import ModelPage

_NOTICE = "<!-- Generated from the registry by `python -m deploy_robust.app.model_pages docs/models`; do not edit. -->"


def model_pages() -> dict[str, str]:
    """Text of every page in Markdown, by file name."""
    return {f"{name}.md": model_page(name) for name in MODELS.names()}


def model_page(name: str) -> str:
    """The page of one network: presets and cost, blocks, what is open in the publication and what was chosen.

    Raises:
        UsageError: The name is unknown.
    """
    spec = MODELS.spec(name)
    page: ModelPage = importlib.import_module(spec.factory.partition(":")[0]).PAGE
    rows = model_rows([name])
    low, high = spec.native_range
    presets = [
        (
            f"`{row.preset}`",
            ", ".join(f"{key}={value}" for key, value in row.arguments.items()),
            f"{row.parameters:,}",
            f"{row.published_parameters:,}",
            f"{row.gmacs:.2f}",
            "yes" if row.official_weights else "",
        )
        for row in rows
    ]
    parts = [
        _NOTICE,
        f"# {spec.title} (`{name}`)",
        f"{spec.summary[0].upper()}{spec.summary[1:]}.",
        f"Reference: {spec.reference}.",
        f"Input and output are RGB in [0, 1]; inside {low:g} to {high:g}, {spec.native_colour}. Height and width: "
        f"{rows[0].size_rule}. Licence of the authors' weights: {spec.official_licence}; they do not come with this "
        "package.",
        "## Presets",
        _table(
            ("preset", "arguments", "parameters", "as published", "GMACs at 480x320", "authors' weights fit"), presets
        ),
        '"As published" also counts what the authors\' code holds and never uses. GMACs are those of the final image '
        "alone.",
        "## Blocks",
        _table(("block", "what it computes"), page.blocks),
    ]
    if page.choices:
        parts += ["## Open or different in the publication", _table(("there", "here"), page.choices)]
    if page.remarks:
        parts += ["## Remarks", *page.remarks]
    return "\n\n".join(parts) + "\n"


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *(tuple(cell.replace("|", r"\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> None:
    """Writes the pages into the folder that is the only argument.

    Raises:
        UsageError: There is another number of arguments.
    """
    if len(arguments) != 1:
        raise UsageError("name one folder: python -m deploy_robust.app.model_pages docs/models")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in model_pages().items():
        (folder / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
