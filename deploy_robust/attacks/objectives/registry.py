"""The objectives by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.attacks.objectives.downstream import segmentation
from deploy_robust.attacks.objectives.input_close import input_close, input_close_perceptual
from deploy_robust.attacks.objectives.lmse import LMSE
from deploy_robust.attacks.objectives.lpips import features, lpips
from deploy_robust.attacks.objectives.object_sensitive import object_sensitive
from deploy_robust.attacks.objectives.unnoticeable import unnoticeable
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.attacks.objectives.objective import Objective

OBJECTIVES: Registry[Callable[..., Objective]] = Registry("objective")
"""Factories whose keyword arguments are the objective's settings; a new one is one file and one line here."""

OBJECTIVES.add("lmse", LMSE)
OBJECTIVES.add("lpips", lpips)
OBJECTIVES.add("features", features)
OBJECTIVES.add("unnoticeable", unnoticeable)
OBJECTIVES.add("input-close", input_close)
OBJECTIVES.add("input-close-perceptual", input_close_perceptual)
OBJECTIVES.add("object", object_sensitive)
OBJECTIVES.add("segmentation", segmentation)
