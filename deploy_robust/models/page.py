"""What a model's page in the documentation says beyond the registry; each network keeps its `PAGE` beside its code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Texts of one network's page.

    Attributes:
        blocks: Rows (block, what it computes), in the order in which an image passes them.
        choices: Rows (what the publication leaves open or does differently, what was chosen here).
        remarks: Paragraphs on results of our own with these networks, as measured.
    """

    blocks: tuple[tuple[str, str], ...]
    choices: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
