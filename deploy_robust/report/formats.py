"""The report formats by name, and writing them into a run folder."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from deploy_robust.artefact.files import write_bytes
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from deploy_robust.report.records import Summary
    from deploy_robust.report.summary import Run


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a summary down.

    Attributes:
        file_name: Name of the file in the run folder.
        module: Module whose ``render(summary, run)`` gives the file's bytes; imported when asked for, because some need
            libraries that take a while.
    """

    file_name: str
    module: str

    def render(self, summary: Summary, run: Run) -> bytes:
        """The file's content."""
        function = cast("Callable[[Summary, Run], bytes]", importlib.import_module(self.module).render)
        return function(summary, run)


FORMATS: Registry[Format] = Registry("report format")
"""A new format is one file beside this one and one line here."""

FORMATS.add("json", Format("report.json", "deploy_robust.report.json_report"))
FORMATS.add("junit", Format("junit.xml", "deploy_robust.report.junit"))
FORMATS.add("markdown", Format("summary.md", "deploy_robust.report.markdown"))
FORMATS.add("html", Format("report.html", "deploy_robust.report.html"))


def write_reports(folder: Path, run: Run, summary: Summary, formats: Iterable[str] = tuple(FORMATS)) -> dict[str, Path]:
    """Writes reports, each whole or not at all; none where one of them cannot be made.

    Args:
        folder: Where to.
        run: The store of the run.
        summary: What `summarise` says of it.
        formats: Names of formats; all of them by default.

    Returns:
        The files by format.

    Raises:
        InputError: The folder cannot be written.
        UsageError: There is no such format.
    """
    chosen = {name: FORMATS[name] for name in formats}
    contents = {name: form.render(summary, run) for name, form in chosen.items()}
    written = {name: folder / form.file_name for name, form in chosen.items()}
    for name, content in contents.items():
        write_bytes(written[name], content)
    return written
