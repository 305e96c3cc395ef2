"""Corners of the ball, asked and offered: what every search ends in.

With an epsilon of whole grey levels and an 8-bit image a corner is an 8-bit image, so that engines that take integers
alone can be asked, and what is found exists in a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.attacks.queries import Answers, Queries


def look(engine: Queries, signs: Tensor) -> Answers:
    """Asks for the corner with these signs (n, 3, H, W) of each active row, and offers it; one query."""
    corner = engine.project(engine.eps * signs)
    (answers,) = engine.ask(corner)
    engine.offer(corner, answers)
    return answers


def random_corners_first(engine: Queries) -> None:
    """Random corners until the stage is spent: nearly free, and strong on fragile networks."""
    draw = 0
    while engine.left:
        look(engine, engine.signs("corners", draw))
        engine.retire()
        draw += 1
