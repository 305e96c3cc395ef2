"""The masks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.attacks.masks.boxes import in_boxes
from deploy_robust.attacks.masks.image import drawn
from deploy_robust.attacks.masks.rain import Rain
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.attacks.masks.mask import Mask

MASKS: Registry[Callable[..., Mask]] = Registry("mask")
"""Factories whose keyword arguments are the mask's settings; ``not-NAME`` is the inverse of each."""

MASKS.add("rain", Rain)
MASKS.add("boxes", in_boxes)
MASKS.add("image", drawn)
